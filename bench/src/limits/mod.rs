//! What the machine allows: the same work without the part that is ours, each a small program or loop of its own.

pub mod disk;
pub mod exchange;
pub mod exchange_programs;
pub mod ledger;
pub mod queue;
