//! The ledger against real shards: fresh databases with the shard schema.

mod described;
mod harness;
mod oracle;
mod states;
mod writing;
