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

pub(crate) use shards::{AffectedShards, UnaffectedShard};

/// How long a diff may take.
pub const DIFF_TIMEOUT: Duration = Duration::from_secs(10);

/// Why it is not known which shards are affected.
pub(crate) type UnknownShardsReason = String;

/// When a diff is given up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DiffDeadline {
    until: Instant,
    timeout: Duration,
}

impl DiffDeadline {
    fn after(timeout: Duration) -> Self {
        Self { until: Instant::now() + timeout, timeout }
    }

    /// Cheap enough to be asked at every node.
    fn check(self) -> Result<(), UnknownShardsReason> {
        if Instant::now() < self.until { Ok(()) } else { Err(too_slow_reason(self.timeout)) }
    }
}

fn too_slow_reason(timeout: Duration) -> UnknownShardsReason {
    format!("the diff of the desired states takes longer than {timeout:?}")
}

/// The shards that differ between two states. Works on a thread of its own, which is left to itself after `timeout`.
pub(crate) async fn find_affected_shards(
    old: Arc<Json>,
    new: Arc<Json>,
    selectors: Vec<String>,
    timeout: Duration,
) -> Result<AffectedShards, UnknownShardsReason> {
    run_with_timeout(timeout, move |deadline| {
        store::pause_point("reconcile_diff");
        shards::find_affected_shards(&old, &new, &selectors, deadline)
    })
    .await
}

/// The shards that a state has; none is no doubt. Works like [`find_affected_shards`].
pub(crate) async fn find_shards(
    state: Json,
    selectors: Vec<String>,
    timeout: Duration,
) -> Result<BTreeSet<String>, UnknownShardsReason> {
    run_with_timeout(timeout, move |deadline| {
        shards::find_shard_names(&state, &selectors, deadline)
    })
    .await
}

async fn run_with_timeout<T: Send + 'static>(
    timeout: Duration,
    work: impl FnOnce(DiffDeadline) -> Result<T, UnknownShardsReason> + Send + 'static,
) -> Result<T, UnknownShardsReason> {
    let deadline = DiffDeadline::after(timeout);
    let handle = store::panics::spawn_blocking_contained(move || work(deadline));
    match tokio::time::timeout(timeout, handle).await {
        Ok(Ok(done)) => done,
        Ok(Err(error)) => Err(format!("the diff of the desired states failed: {error}")),
        Err(_) => Err(too_slow_reason(timeout)),
    }
}
