//! Events of orders: `orderProcessed` and `orderFailed`.

mod outcomes;

pub use outcomes::OrderEventWriter;
