//! What events have to do with orders: the events that tell of orders' ends, and the types of task that need the order service.

mod configurator_run;
mod outcomes;
mod process_orders;

pub use configurator_run::{ConfiguratorRun, StartRuns};
pub use outcomes::OrderEvents;
pub use process_orders::{Place, ProcessOrders};
