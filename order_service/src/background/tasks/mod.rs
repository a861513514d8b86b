//! Task types of this platform and their handlers.

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

use crate::background::events::{
    ConfiguratorRunHandler, ConfiguratorRunner, OrderProcessor, ProcessOrdersHandler,
};

/// All task types, in the order in which they are listed.
pub const TASK_TYPES: [TaskType; 7] = [
    TaskType::of_handler::<PartitionMaintenanceHandler>(),
    TaskType::of_handler::<AggregatePassHandler>(),
    TaskType::of_handler::<HttpRequest>(),
    TaskType::of_handler::<ProcessOrdersHandler>(),
    TaskType::of_handler::<ConfiguratorRunHandler>(),
    TaskType::of_handler::<EmitEvent>(),
    TaskType::of_handler::<NoopTask>(),
];

/// Dependencies of the task handlers.
pub struct TaskHandlerDependencies {
    /// Ledger for partitions and aggregates.
    pub ledger: Arc<Ledger>,
    /// Retention of ledger events, by months.
    pub retention: Retention,
    /// Processes orders for `ProcessOrdersHandler`.
    pub orders: Arc<dyn OrderProcessor>,
    /// Starts configurator runs for `ConfiguratorRunHandler`.
    pub runs: Arc<dyn ConfiguratorRunner>,
    /// Store that `EmitEvent` writes to.
    pub events: EventStore,
    /// HTTP client for webhooks.
    pub webhooks: HttpRequest,
}

/// Builds a handler for each of [`TASK_TYPES`].
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

/// Bundle check: schedules must name a known task type, with valid params.
pub fn check_schedules(bundle: &Bundle) -> Vec<BundleDiagnostic> {
    schedule::check_schedules(bundle, &TASK_TYPES)
}

/// Bundle check: action configs must name a known task type, with valid params.
pub fn check_action_configs(bundle: &Bundle) -> Vec<BundleDiagnostic> {
    configs::check_configs(bundle, &TASK_TYPES)
}
