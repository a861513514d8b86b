//! The log broker that the settings name.

use std::sync::Arc;

use ledger::export::ExportEngine;
use ledger::export::files::ExportFileEngine;
use store::data_dir::open_data_dir;

use crate::settings::ExportSettings;

/// The engine; `None` if nothing is exported. Nothing is connected yet.
pub fn build_export_engine(
    settings: &ExportSettings,
) -> anyhow::Result<Option<Arc<dyn ExportEngine>>> {
    Ok(match settings {
        ExportSettings::None => None,
        ExportSettings::Files(data_dir) => {
            Some(Arc::new(ExportFileEngine::in_data_dir(data_dir.path()?)))
        }
        #[cfg(feature = "nats")]
        ExportSettings::Nats(nats) => Some(Arc::new(ledger_nats::NatsEngine::new(nats.clone()))),
    })
}

/// The engine for who writes: what it writes to is nobody else's.
pub(super) fn build_export_writer_engine(
    settings: &ExportSettings,
) -> anyhow::Result<Option<Arc<dyn ExportEngine>>> {
    if let ExportSettings::Files(data_dir) = settings {
        ExportFileEngine::in_data_dir(&open_data_dir(data_dir.path()?)?).restrict_access()?;
    }
    build_export_engine(settings)
}
