//! Export: writes the feed of each shard to a log broker, exactly once and in order.
//!
//! - Shape: one exporter per shard, under a lease. The lease does not fence the broker, so each
//!   engine fences stale exporters itself: `files` by a file lock, `nats` by publishing each
//!   message only right after its predecessor.
//! - Cost: on start, one comparison of the broker's entries after the recorded number with the
//!   ledger, event by event. The exporter continues only if they are equal.
//! - Promise: a crash between sending and recording neither loses nor repeats an event. A broker or
//!   ledger restored to an older copy raises an [`ExportAlarm`]; nothing is sent until an operator
//!   decides.
//!
//! After a restore of the ledger, a sequence number may be assigned
//! again to another event; then the *epoch* is raised. An epoch's
//! first number voids the entries of earlier epochs at or above it.

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
