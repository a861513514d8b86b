//! The background tasks of this platform: which types there are, and what they do.

mod aggregates;
mod partitions;

use std::sync::Arc;

use events::Events;
use events::configs;
use events::task_types::{EmitEvent, HttpRequest, Noop};
use ledger::Ledger;
use reconcile::{Bundle, Diagnostic};
use tasks::schedule;
use tasks::{Handlers, TaskType};

use aggregates::LedgerAggregates;
use ledger::partitions::Retention;
use partitions::LedgerPartitions;
pub use partitions::months_ahead;

use crate::events::{ConfiguratorRun, Place, ProcessOrders, StartRuns};

/// All types of task.
pub const TASK_TYPES: [TaskType; 7] = [
    TaskType::of::<LedgerPartitions>(),
    TaskType::of::<LedgerAggregates>(),
    TaskType::of::<HttpRequest>(),
    TaskType::of::<ProcessOrders>(),
    TaskType::of::<ConfiguratorRun>(),
    TaskType::of::<EmitEvent>(),
    TaskType::of::<Noop>(),
];

/// What tasks need.
pub struct Means {
    /// The ledger.
    pub ledger: Arc<Ledger>,
    /// How long its events are kept.
    pub retention: Retention,
    /// Processes orders.
    pub orders: Arc<dyn Place>,
    /// Runs graphs.
    pub runs: Arc<dyn StartRuns>,
    /// Emits events.
    pub events: Events,
    /// Sends webhooks.
    pub webhooks: HttpRequest,
}

/// What carries them out.
pub fn handlers(means: Means) -> Handlers {
    Handlers::default()
        .with(LedgerPartitions { ledger: means.ledger.clone(), retention: means.retention })
        .with(LedgerAggregates { ledger: means.ledger })
        .with(means.webhooks)
        .with(ProcessOrders(means.orders))
        .with(ConfiguratorRun(means.runs))
        .with(EmitEvent(means.events))
        .with(Noop)
}

/// Looks at the schedules of a bundle.
pub fn check_schedules(bundle: &Bundle) -> Vec<Diagnostic> {
    schedule::check_schedules(bundle, &TASK_TYPES)
}

/// Looks at the action configs of a bundle.
pub fn check_action_configs(bundle: &Bundle) -> Vec<Diagnostic> {
    configs::check_configs(bundle, &TASK_TYPES)
}
