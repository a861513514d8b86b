//! Events of orders: `orderProcessed` and `orderFailed`, and the task types that need the order
//! service.

mod configurator_run;
mod outcomes;
mod process_orders;

pub use configurator_run::{ConfiguratorRunHandler, ConfiguratorRunner};
pub use outcomes::OrderEventWriter;
pub use process_orders::{OrderProcessor, ProcessOrdersHandler};
