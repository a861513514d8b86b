//! The background tasks of this platform: which types there are, and what they do.

mod aggregates;

use std::sync::Arc;

use ledger::Ledger;
use reconcile::{Bundle, Diagnostic};
use tasks::schedule;
use tasks::{Handlers, TaskType};

use aggregates::LedgerAggregates;

/// All types of task.
pub const TASK_TYPES: [TaskType; 1] = [TaskType::of::<LedgerAggregates>()];

/// What carries them out.
pub fn handlers(ledger: &Arc<Ledger>) -> Handlers {
    Handlers::default().with(LedgerAggregates { ledger: ledger.clone() })
}

/// Looks at the schedules of a bundle.
pub fn check_schedules(bundle: &Bundle) -> Vec<Diagnostic> {
    schedule::check_schedules(bundle, &TASK_TYPES)
}
