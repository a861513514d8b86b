//! The audit trail: a row of `audit` for each change of configuration and each act of an operator.
//!
//! - Shape: whoever changes something records [`AuditEntry`]s on the connection of its own
//!   transaction, with the [`AuditActor`] who asked for it.
//! - Cost: one statement per transaction that changes something; orders, callbacks and the writes
//!   of the ledger record nothing.
//! - Promise: a change that is rolled back has no row, one that is committed has one. Rows are never
//!   changed, and deleted by [`run_retention`] only (`sql/control/refuse_change.sql`). A row holds no
//!   secrets: see [`AuditDifference`].

mod action;
mod actor;
mod difference;
mod entry;
mod listing;
mod redaction;
mod retention;

pub use action::AuditAction;
pub use actor::{ANONYMOUS_ACTOR, AuditActor};
pub use difference::AuditDifference;
pub use entry::{AuditEntry, record_entries, record_entry};
pub use listing::{
    AuditFilter, AuditId, AuditRow, DEFAULT_ENTRIES_PER_PAGE, MAX_ENTRIES_PER_PAGE, list_entries,
};
pub use retention::{MIN_RETENTION, forget_entries, run_retention};
