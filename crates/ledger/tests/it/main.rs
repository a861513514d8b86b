//! The ledger against real shards: fresh databases with the shard schema.

mod batches;
mod harness;
mod locks;
mod oracle;
mod states;
mod types;
mod writing;
