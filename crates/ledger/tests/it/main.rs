//! The ledger against real shards: fresh databases with the shard schema.

mod harness;
mod locks;
mod oracle;
mod states;
mod writing;
