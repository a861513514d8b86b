//! Partitions: events lie in a table for each month, made ahead, and dropped when they are older than the retention.
//!
//! A month is dropped once everything in it has numbers, is aggregated and is exported. What it summed up to stays
//! (`closing_balances`), and the shard's horizon moves: questions about times before it are refused, all others are
//! answered as before. Writers and readers wait 100 ms at most. A month that was dropped is made again when somebody
//! writes to it.

mod ahead;
mod closing;
mod horizon;
mod maintenance;
mod retention;

pub use ahead::{MONTH_FORMAT, make_missing_in_tx, missing_in_tx};
pub(crate) use closing::closing_sums;
pub(crate) use horizon::{Asked, Horizon, Standing, horizon, standing};
pub use maintenance::{Kept, Maintained, Terms, maintain};
pub use retention::Retention;
