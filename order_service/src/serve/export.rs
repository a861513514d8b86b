//! Export engine of the settings.

use std::sync::Arc;

use ledger::export::ExportEngine;
use ledger::export::files::ExportFileEngine;
use store::data_dir::open_data_dir;

use crate::settings::ExportSettings;

/// Engine without connecting; `None` if nothing is exported.
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

/// Engine for the exporter. Makes the export folder inaccessible to other users.
pub(super) fn build_export_writer_engine(
    settings: &ExportSettings,
) -> anyhow::Result<Option<Arc<dyn ExportEngine>>> {
    if let ExportSettings::Files(data_dir) = settings {
        ExportFileEngine::in_data_dir(&open_data_dir(data_dir.path()?)?).restrict_access()?;
    }
    build_export_engine(settings)
}
