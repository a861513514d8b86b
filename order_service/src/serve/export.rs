//! The log broker that the settings name.

use std::sync::Arc;

use ledger::export::Engine;
use ledger::export::files::Files;
use store::data_dir::open_data_dir;

use crate::settings::ExportSettings;

/// The engine; `None` if nothing is exported. Nothing is connected yet.
pub fn engine(settings: &ExportSettings) -> anyhow::Result<Option<Arc<dyn Engine>>> {
    Ok(match settings {
        ExportSettings::None => None,
        ExportSettings::Files(data_dir) => Some(Arc::new(Files::below(data_dir.path()?))),
        #[cfg(feature = "nats")]
        ExportSettings::Nats(nats) => Some(Arc::new(ledger_nats::Nats::new(nats.clone()))),
    })
}

/// The engine for who writes: what it writes to is nobody else's.
pub(super) fn engine_to_write(settings: &ExportSettings) -> anyhow::Result<Option<Arc<dyn Engine>>> {
    if let ExportSettings::Files(data_dir) = settings {
        Files::below(&open_data_dir(data_dir.path()?)?).close_to_others()?;
    }
    engine(settings)
}
