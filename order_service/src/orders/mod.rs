//! Orders, from the request to the ledger.
//!
//! Path of an order: [`api`] (validate, accept durably) -> [`pipeline`] (stages, workers, fan-out)
//! -> [`exchange`] (ask the data manager, await the callback) -> [`postings`] (ledger events) ->
//! [`db`] (end durably) -> [`outcome_hub`] (answer). After a transient error [`retry`] returns it
//! to the pipeline.

pub mod api;
pub mod db;
pub mod exchange;
mod ids;
pub mod outcome_hub;
pub mod pipeline;
pub mod postings;
pub mod retry;

pub use ids::{NewOrder, OrderId, PickupPointId, ProductId, StorageId};
