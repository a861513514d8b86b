//! The rows: each starts its programs, generates load, measures, and verifies that
//! acknowledged data is stored.

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
