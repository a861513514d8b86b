//! The order service: takes orders over gRPC, carries each through the staged pipeline, asks the data manager, keeps
//! what failed in the retry queue.
//!
//! One order's way: [`api`] (validate, accept durably) -> [`pipeline`] (stages, workers, fan-out) -> [`exchange`] (ask,
//! await the callback) -> [`postings`] (ledger events) -> [`orders`] (end durably) -> answer; on a transient error
//! [`retry`] brings it back into the pipeline.

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
