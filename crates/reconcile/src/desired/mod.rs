//! Two desired states held against each other: what differs, and which shards that touches.
//!
//! Any doubt is an error, and its reader runs everything: a diff that takes too long, a difference that belongs to no
//! shard, a selector that finds nothing.

mod diff;
mod selector;
mod shards;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value as Json;

pub(crate) use shards::{Affected, Untouched};

/// How long a diff may take.
pub const DIFF_LIMIT: Duration = Duration::from_secs(10);

/// Why it is not known which shards are affected.
pub(crate) type Doubt = String;

/// When a diff is given up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline {
    until: Instant,
    limit: Duration,
}

impl Deadline {
    fn after(limit: Duration) -> Self {
        Self { until: Instant::now() + limit, limit }
    }

    /// Cheap enough to be asked at every node.
    fn check(self) -> Result<(), Doubt> {
        if Instant::now() < self.until { Ok(()) } else { Err(too_slow(self.limit)) }
    }
}

fn too_slow(limit: Duration) -> Doubt {
    format!("the diff of the desired states takes longer than {limit:?}")
}

/// The shards that differ between two states. Works on a thread of its own, which is left to itself after `limit`.
pub(crate) async fn affected(
    old: Arc<Json>,
    new: Arc<Json>,
    selectors: Vec<String>,
    limit: Duration,
) -> Result<Affected, Doubt> {
    within(limit, move |deadline| {
        store::pause_point("reconcile_diff");
        shards::affected(&old, &new, &selectors, deadline)
    })
    .await
}

/// The shards that a state has; none is no doubt. Works like [`affected`].
pub(crate) async fn shards_of(
    state: Json,
    selectors: Vec<String>,
    limit: Duration,
) -> Result<BTreeSet<String>, Doubt> {
    within(limit, move |deadline| shards::names(&state, &selectors, deadline)).await
}

async fn within<T: Send + 'static>(
    limit: Duration,
    work: impl FnOnce(Deadline) -> Result<T, Doubt> + Send + 'static,
) -> Result<T, Doubt> {
    let deadline = Deadline::after(limit);
    let working = store::panics::spawn_blocking_contained(move || work(deadline));
    match tokio::time::timeout(limit, working).await {
        Ok(Ok(done)) => done,
        Ok(Err(error)) => Err(format!("the diff of the desired states failed: {error}")),
        Err(_) => Err(too_slow(limit)),
    }
}
