//! Sharding: canonical keys, the shard map and the shards' databases.

mod key;
mod map;
mod shards;

pub use key::{ShardHash, encode_canonical, parse_canonical};
pub(crate) use key::{derive_id, digest_parts};
pub use map::{MAX_EQUAL_SHARDS, ShardDefinition, ShardMap, ShardRange, ShardUrlSource};
pub use shards::{LedgerShards, Shard, ShardOpenError};
