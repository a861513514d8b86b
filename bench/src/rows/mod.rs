//! The rows: each starts what it needs, loads it, measures it, and verifies that what was acknowledged is there.

pub mod background;
pub mod balances;
pub mod bytes;
pub mod configurator;
pub mod matching;
pub mod misbehaving;
pub mod orders;
pub mod queue;
pub mod reconcile;
pub mod retry_queue;
pub mod size;
pub mod start;
mod verify;
pub mod writes;
