//! What events have to do with orders: the events that tell of orders' ends, and the types of task that need the order service.

mod configurator_run;
mod outcomes;
mod process_orders;

pub use configurator_run::{ConfiguratorRunHandler, ConfiguratorRunner};
pub use outcomes::OrderEventWriter;
pub use process_orders::{OrderProcessor, ProcessOrdersHandler};
