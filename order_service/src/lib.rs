//! Order service: accepts orders over gRPC, processes them in a staged pipeline, asks the data
//! manager, retries failures from a queue.
//!
//! Path of an order: [`api`] (validate, accept durably) -> [`pipeline`] (stages, workers, fan-out)
//! -> [`exchange`] (ask, await the callback) -> [`postings`] (ledger events) -> [`orders`] (end
//! durably) -> answer. After a transient error [`retry`] returns it to the pipeline.

pub mod api;
pub mod bundle;
pub mod cli;
pub mod events;
pub mod exchange;
pub mod integration;
pub mod orders;
pub mod outcome_hub;
pub mod partitions;
pub mod pipeline;
pub mod postings;
pub mod processes;
pub mod queues;
pub mod retry;
pub mod serve;
pub mod settings;
pub mod tasks;
