//! The ledger: typed accounts whose events lie on sharded Postgres databases, with exact balances at any date; locks and
//! states beside them.
//!
//! Every thing (account, lock, state) belongs to the shard that owns the SHA-1 of its shard key, so that an account and
//! the lock and state that guard it lie together, and one transaction can see all three.

mod amount;
pub mod events;
mod json;
mod moment;
pub mod sharding;
pub mod types;
