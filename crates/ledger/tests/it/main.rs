//! Integration tests of the ledger on real shards: fresh databases with the shard schema.

// Test helpers may panic and print.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::expect_used,
    clippy::panic,
    missing_docs
)]

mod answer_sizes;
mod attached;
mod attached_meanwhile;
mod batches;
mod checked;
mod described;
mod document;
mod export;
mod harness;
mod hostile_input;
mod lag;
mod locks;
mod narrowed_scopes;
mod numbers;
mod oracle;
mod partitions;
mod passes;
mod put_back;
mod reads_by_number;
mod stale_types;
mod states;
mod types;
mod writing;
