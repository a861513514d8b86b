//! The rows: each starts what it needs, loads it, measures it, and verifies that what was acknowledged is there.

pub mod orders;
mod verify;
