//! Task types of this platform and their handlers.

mod aggregates;
mod configurator_run;
mod partitions;
mod process_orders;

use std::sync::Arc;

use events::EventStore;
use events::configs;
use events::task_types::{EmitEvent, HttpRequest, NoopTask};
use ledger::Ledger;
use ledger::partitions::Retention;
use reconcile::{Bundle, BundleDiagnostic};
use tasks::schedule;
use tasks::{TaskHandler, TaskHandlers, TaskType};

pub use configurator_run::{ConfiguratorRunHandler, ConfiguratorRunner};
pub use partitions::months_ahead;
pub use process_orders::ProcessOrdersHandler;

use aggregates::AggregatePassHandler;
use partitions::PartitionMaintenanceHandler;

use crate::orders::api::OrderApiState;

/// The table of task types: [`TASK_TYPES`] and [`build_task_handlers`] follow from it.
const TASK_TABLE: [TaskTableRow; 7] = [
    TaskTableRow::of_handler::<PartitionMaintenanceHandler>(),
    TaskTableRow::of_handler::<AggregatePassHandler>(),
    TaskTableRow::of_handler::<HttpRequest>(),
    TaskTableRow::of_handler::<ProcessOrdersHandler>(),
    TaskTableRow::of_handler::<ConfiguratorRunHandler>(),
    TaskTableRow::of_handler::<EmitEvent>(),
    TaskTableRow::of_handler::<NoopTask>(),
];

/// A task type, and the builder of its handler.
struct TaskTableRow {
    task_type: TaskType,
    add_handler: fn(TaskHandlers, &TaskHandlerDependencies) -> TaskHandlers,
}

impl TaskTableRow {
    const fn of_handler<H: PlatformTaskHandler>() -> Self {
        Self { task_type: TaskType::of_handler::<H>(), add_handler: add_built_handler::<H> }
    }
}

/// A handler of [`TASK_TABLE`].
trait PlatformTaskHandler: TaskHandler + Sized {
    fn from_dependencies(dependencies: &TaskHandlerDependencies) -> Self;
}

fn add_built_handler<H: PlatformTaskHandler>(
    handlers: TaskHandlers,
    dependencies: &TaskHandlerDependencies,
) -> TaskHandlers {
    handlers.with_handler(H::from_dependencies(dependencies))
}

/// All task types, in the order in which they are listed.
pub const TASK_TYPES: [TaskType; TASK_TABLE.len()] = {
    let mut types = [TASK_TABLE[0].task_type; TASK_TABLE.len()];
    let mut index = 1;
    while index < types.len() {
        types[index] = TASK_TABLE[index].task_type;
        index += 1;
    }
    types
};

/// Dependencies of the task handlers.
pub struct TaskHandlerDependencies {
    /// Ledger for partitions and aggregates.
    pub ledger: Arc<Ledger>,
    /// Retention of ledger events, by months.
    pub retention: Retention,
    /// Processes orders for `ProcessOrdersHandler`.
    pub orders: OrderApiState,
    /// Starts configurator runs for `ConfiguratorRunHandler`.
    pub runs: Arc<dyn ConfiguratorRunner>,
    /// Store that `EmitEvent` writes to.
    pub events: EventStore,
    /// HTTP client for webhooks.
    pub webhooks: HttpRequest,
}

/// Builds a handler for each of [`TASK_TYPES`].
pub fn build_task_handlers(dependencies: &TaskHandlerDependencies) -> TaskHandlers {
    let mut handlers = TaskHandlers::default();
    for row in &TASK_TABLE {
        handlers = (row.add_handler)(handlers, dependencies);
    }
    handlers
}

impl PlatformTaskHandler for PartitionMaintenanceHandler {
    fn from_dependencies(dependencies: &TaskHandlerDependencies) -> Self {
        Self { ledger: dependencies.ledger.clone(), retention: dependencies.retention }
    }
}

impl PlatformTaskHandler for AggregatePassHandler {
    fn from_dependencies(dependencies: &TaskHandlerDependencies) -> Self {
        Self { ledger: dependencies.ledger.clone() }
    }
}

impl PlatformTaskHandler for HttpRequest {
    fn from_dependencies(dependencies: &TaskHandlerDependencies) -> Self {
        dependencies.webhooks.clone()
    }
}

impl PlatformTaskHandler for ProcessOrdersHandler {
    fn from_dependencies(dependencies: &TaskHandlerDependencies) -> Self {
        Self(dependencies.orders.clone())
    }
}

impl PlatformTaskHandler for ConfiguratorRunHandler {
    fn from_dependencies(dependencies: &TaskHandlerDependencies) -> Self {
        Self(dependencies.runs.clone())
    }
}

impl PlatformTaskHandler for EmitEvent {
    fn from_dependencies(dependencies: &TaskHandlerDependencies) -> Self {
        Self(dependencies.events.clone())
    }
}

impl PlatformTaskHandler for NoopTask {
    fn from_dependencies(_: &TaskHandlerDependencies) -> Self {
        Self
    }
}

/// Bundle check: schedules must name a known task type, with valid params.
pub fn check_schedules(bundle: &Bundle) -> Vec<BundleDiagnostic> {
    schedule::check_schedules(bundle, &TASK_TYPES)
}

/// Bundle check: action configs must name a known task type, with valid params.
pub fn check_action_configs(bundle: &Bundle) -> Vec<BundleDiagnostic> {
    configs::check_configs(bundle, &TASK_TYPES)
}
