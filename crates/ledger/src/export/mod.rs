//! Export: every numbered event goes to a log broker exactly once, and in order per shard.
//!
//! Where it stopped is asked of the broker each time an exporter begins: what the broker holds after the last number
//! recorded here is compared with the ledger, event by event, and only if it is the same does the exporter go on. So a
//! crash between sending and recording costs nothing, and a broker or a ledger that was put back to an older copy is
//! noticed: then the exporter stops, says why ([`ExportAlarm`]), and sends nothing until somebody decides.
//!
//! One exporter for each shard works at a time (a lease). The lease cannot reach into the broker, so each engine keeps
//! zombies out by its own means: `files` by a file lock, `nats` by publishing each message only right after the one
//! before it.
//!
//! An event's number may come again after a ledger was restored, with another event; then the *epoch* is raised. In the
//! stream, an epoch's first number says which entries of earlier epochs are void: those at or above it.

mod alarm;
mod alignment;
mod body;
mod compare;
mod engine;
mod entry;
mod exporter;
pub mod files;
mod progress;
mod realign;
mod recover;
mod verify;

pub use alarm::ExportAlarm;
pub use engine::{ExportEngine, ExportError, ExportLog, Result};
pub use entry::{ExportEntry, ExportMark};
pub use exporter::{Exporter, exporter_duty};
pub(crate) use progress::ExportProgress;
pub use realign::{ExportRealignment, begin_epoch, resume_export};
pub use verify::{ExportVerification, ExportVerifier};
