//! Limits of the machine: the same work without the platform, as small processes or loops.

pub mod disk;
pub mod exchange;
pub mod exchange_programs;
pub mod ledger;
pub mod queue;
