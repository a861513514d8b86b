//! Ledger shards for reconcilers: by name, opened on first use.

use std::collections::BTreeMap;

use futures::future::{BoxFuture, join_all};
use ledger::sharding::Shard;
use tokio::sync::OnceCell;

/// Opens the shard of a name; `None` if its database is still empty. An error is one line.
pub type ShardOpener =
    Box<dyn Fn(String) -> BoxFuture<'static, Result<Option<Shard>, String>> + Send + Sync>;

/// All shards, each opened at most once.
pub struct ShardSet {
    names: Vec<String>,
    open: ShardOpener,
    opened_shards: BTreeMap<String, OnceCell<Option<Shard>>>,
}

impl ShardSet {
    /// Shards of these names, in this order.
    pub fn new(names: Vec<String>, open: ShardOpener) -> Self {
        let opened_shards = names.iter().map(|name| (name.clone(), OnceCell::new())).collect();
        Self { names, open, opened_shards }
    }

    /// A set of shards that are already open.
    pub fn from_open_shards(shards: &[Shard]) -> Self {
        let names = shards.iter().map(|shard| shard.name.clone()).collect();
        let shards = shards.to_vec();
        Self::new(
            names,
            Box::new(move |name| {
                let found = shards.iter().find(|shard| shard.name == name).cloned();
                Box::pin(std::future::ready(Ok(found)))
            }),
        )
    }

    /// Names of the shards, in map order.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The shard of this name; `None` if its database is empty.
    pub async fn get_shard(&self, name: &str) -> Result<Option<Shard>, String> {
        let Some(opened) = self.opened_shards.get(name) else {
            return Err(format!("there is no shard `{name}` (known: {})", self.names.join(", ")));
        };
        opened.get_or_try_init(|| (self.open)(name.to_owned())).await.cloned()
    }

    /// All shards whose database is not empty.
    pub async fn open_all_shards(&self) -> Result<Vec<Shard>, String> {
        let all: Result<Vec<Option<Shard>>, String> =
            join_all(self.names.iter().map(|name| self.get_shard(name)))
                .await
                .into_iter()
                .collect();
        Ok(all?.into_iter().flatten().collect())
    }
}
