//! Where the ledger's events are exported to.

use std::path::PathBuf;

use ledger::export::nats::NatsSettings;
use settings::{Resolved, SettingError};

use super::DataDir;

/// `--export-engine` and what belongs to it.
#[derive(Debug, Clone)]
pub enum ExportSettings {
    /// `none`
    None,
    /// `files`, below this data dir.
    Files(DataDir),
    /// `nats`
    Nats(NatsSettings),
}

impl ExportSettings {
    /// From resolved settings.
    pub fn new(resolved: &Resolved, data_dir: &DataDir) -> Result<Self, SettingError> {
        match resolved.required::<String>("export-engine")?.as_str() {
            "none" => Ok(Self::None),
            "files" => Ok(Self::Files(data_dir.clone())),
            "nats" => {
                let credentials = resolved.optional::<String>("nats-credentials")?.map(PathBuf::from);
                let url: String = resolved.required("nats-url")?;
                NatsSettings::check(&url).map_err(|reason| resolved.invalid("nats-url", reason))?;
                Ok(Self::Nats(NatsSettings { credentials, ..NatsSettings::at(url) }))
            }
            other => Err(resolved.invalid("export-engine", format!("`{other}` is not files, nats or none"))),
        }
    }
}
