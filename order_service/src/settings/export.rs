//! Settings of the ledger export.

#[cfg(feature = "nats")]
use ledger_nats::NatsSettings;
use settings::{ResolvedSettings, SettingError};

use super::DataDir;

/// `--export-engine` with its options.
#[derive(Debug, Clone)]
pub enum ExportSettings {
    /// `none`: nothing is exported.
    None,
    /// `files`: below this data directory.
    Files(DataDir),
    /// `nats`: a JetStream stream.
    #[cfg(feature = "nats")]
    Nats(NatsSettings),
}

impl ExportSettings {
    /// Checks and types resolved settings.
    pub fn new(resolved: &ResolvedSettings, data_dir: &DataDir) -> Result<Self, SettingError> {
        match resolved.get_required::<String>("export-engine")?.as_str() {
            "none" => Ok(Self::None),
            "files" => Ok(Self::Files(data_dir.clone())),
            "nats" => nats(resolved),
            other => Err(resolved
                .invalid_setting("export-engine", format!("`{other}` is not files, nats or none"))),
        }
    }
}

#[cfg(feature = "nats")]
fn nats(resolved: &ResolvedSettings) -> Result<ExportSettings, SettingError> {
    let credentials =
        resolved.get_optional::<String>("nats-credentials")?.map(std::path::PathBuf::from);
    let url: String = resolved.get_required("nats-url")?;
    NatsSettings::check_url(&url).map_err(|reason| resolved.invalid_setting("nats-url", reason))?;
    Ok(ExportSettings::Nats(NatsSettings { credentials, ..NatsSettings::from_url(url) }))
}

#[cfg(not(feature = "nats"))]
fn nats(resolved: &ResolvedSettings) -> Result<ExportSettings, SettingError> {
    Err(resolved.invalid_setting("export-engine", super::not_compiled("nats")))
}
