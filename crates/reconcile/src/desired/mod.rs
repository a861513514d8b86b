//! Comparison of two desired states: differences, and the shards they affect.
//!
//! Any uncertainty is an error, and the caller then runs everything: a timeout, a difference that
//! belongs to no shard, a selector that matches nothing.

mod diff;
mod selector;
mod shards;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value as Json;

pub(crate) use shards::AffectedShards;

/// Default time limit of a diff.
pub const DIFF_TIMEOUT: Duration = Duration::from_secs(10);

/// Why the affected shards cannot be found.
pub(crate) type UnknownShardsReason = String;

/// Time limit of a running diff.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DiffDeadline {
    until: Instant,
    timeout: Duration,
}

impl DiffDeadline {
    fn after(timeout: Duration) -> Self {
        Self { until: Instant::now() + timeout, timeout }
    }

    /// Cheap enough to call for every node.
    fn check(self) -> Result<(), UnknownShardsReason> {
        if Instant::now() < self.until { Ok(()) } else { Err(too_slow_reason(self.timeout)) }
    }
}

fn too_slow_reason(timeout: Duration) -> UnknownShardsReason {
    format!("the diff of the desired states takes longer than {timeout:?}")
}

/// Finds the shards that differ between two states. Runs on a blocking thread, which is abandoned
/// after `timeout`; it checks the deadline and then stops.
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

/// Finds the shards of one state; none at all is a valid result. Runs like
/// [`find_affected_shards`].
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
