//! The ledger against real shards: fresh databases with the shard schema.

mod batches;
mod described;
mod document;
mod harness;
mod locks;
mod numbers;
mod oracle;
mod states;
mod writing;
