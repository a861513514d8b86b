//! Which shard owns what, and the shards' databases.

mod key;
mod map;
mod shards;

pub use key::{ShardHash, canonical, parse_canonical};
pub(crate) use key::{digest, identify};
pub use map::{MAX_EQUAL_SHARDS, Range, ShardMap, ShardPlace, UrlSource};
pub use shards::{OpenError, Shard, Shards};
