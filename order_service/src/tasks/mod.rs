//! The background tasks of this platform: which types there are, and what they do.

mod aggregates;
mod partitions;

use std::sync::Arc;

use ledger::Ledger;
use reconcile::{Bundle, Diagnostic};
use tasks::schedule;
use tasks::{Handlers, TaskType};

use aggregates::LedgerAggregates;
use ledger::partitions::Retention;
use partitions::LedgerPartitions;
pub use partitions::months_ahead;

/// All types of task.
pub const TASK_TYPES: [TaskType; 2] =
    [TaskType::of::<LedgerPartitions>(), TaskType::of::<LedgerAggregates>()];

/// What carries them out.
pub fn handlers(ledger: &Arc<Ledger>, retention: Retention) -> Handlers {
    Handlers::default()
        .with(LedgerPartitions { ledger: ledger.clone(), retention })
        .with(LedgerAggregates { ledger: ledger.clone() })
}

/// Looks at the schedules of a bundle.
pub fn check_schedules(bundle: &Bundle) -> Vec<Diagnostic> {
    schedule::check_schedules(bundle, &TASK_TYPES)
}
