//! The log broker that the settings name.

use std::sync::Arc;

use ledger::export::Engine;
use ledger::export::files::Files;

use crate::settings::ExportSettings;

/// The engine; `None` if nothing is exported. Nothing is connected yet.
pub fn engine(settings: &ExportSettings) -> Option<Arc<dyn Engine>> {
    match settings {
        ExportSettings::None => None,
        ExportSettings::Files(data_dir) => Some(Arc::new(Files::below(data_dir))),
        #[cfg(feature = "nats")]
        ExportSettings::Nats(nats) => Some(Arc::new(ledger_nats::Nats::new(nats.clone()))),
    }
}
