//! Background work that is not an order's: the service's task types, and the events of orders.

pub mod events;
pub mod tasks;
