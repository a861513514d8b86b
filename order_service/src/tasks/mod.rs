//! The background tasks of this platform: which types there are, and what they do.

mod aggregates;
mod partitions;

use std::sync::Arc;

use events::EventStore;
use events::configs;
use events::task_types::{EmitEvent, HttpRequest, NoopTask};
use ledger::Ledger;
use reconcile::{Bundle, BundleDiagnostic};
use tasks::schedule;
use tasks::{TaskHandlers, TaskType};

use aggregates::AggregatePassHandler;
use ledger::partitions::Retention;
use partitions::PartitionMaintenanceHandler;
pub use partitions::months_ahead;

use crate::events::{
    ConfiguratorRunHandler, ConfiguratorRunner, OrderProcessor, ProcessOrdersHandler,
};

/// All types of task.
pub const TASK_TYPES: [TaskType; 7] = [
    TaskType::of_handler::<PartitionMaintenanceHandler>(),
    TaskType::of_handler::<AggregatePassHandler>(),
    TaskType::of_handler::<HttpRequest>(),
    TaskType::of_handler::<ProcessOrdersHandler>(),
    TaskType::of_handler::<ConfiguratorRunHandler>(),
    TaskType::of_handler::<EmitEvent>(),
    TaskType::of_handler::<NoopTask>(),
];

/// What tasks need.
pub struct TaskHandlerDependencies {
    /// The ledger.
    pub ledger: Arc<Ledger>,
    /// How long its events are kept.
    pub retention: Retention,
    /// Processes orders.
    pub orders: Arc<dyn OrderProcessor>,
    /// Runs graphs.
    pub runs: Arc<dyn ConfiguratorRunner>,
    /// Emits events.
    pub events: EventStore,
    /// Sends webhooks.
    pub webhooks: HttpRequest,
}

/// What carries them out.
pub fn build_task_handlers(dependencies: TaskHandlerDependencies) -> TaskHandlers {
    TaskHandlers::default()
        .with_handler(PartitionMaintenanceHandler {
            ledger: dependencies.ledger.clone(),
            retention: dependencies.retention,
        })
        .with_handler(AggregatePassHandler { ledger: dependencies.ledger })
        .with_handler(dependencies.webhooks)
        .with_handler(ProcessOrdersHandler(dependencies.orders))
        .with_handler(ConfiguratorRunHandler(dependencies.runs))
        .with_handler(EmitEvent(dependencies.events))
        .with_handler(NoopTask)
}

/// Looks at the schedules of a bundle.
pub fn check_schedules(bundle: &Bundle) -> Vec<BundleDiagnostic> {
    schedule::check_schedules(bundle, &TASK_TYPES)
}

/// Looks at the action configs of a bundle.
pub fn check_action_configs(bundle: &Bundle) -> Vec<BundleDiagnostic> {
    configs::check_configs(bundle, &TASK_TYPES)
}
