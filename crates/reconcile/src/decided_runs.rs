//! The runtime's decision: which reconcilers and shards run, and why the others do not.

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::decide::ReconcileDecision;

/// The decisions of a request, for all selected reconcilers.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DecidedRuns {
    /// One entry per reconciler, in run order.
    pub works: Vec<ReconcilerRun>,
    /// Why narrowing was not possible and more is run.
    pub warnings: Vec<String>,
    /// Fingerprint of the bundle, if this process has checked it and found no problem.
    #[serde(skip)]
    pub(crate) checked_bundle: Option<String>,
}

/// The decision for one reconciler.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReconcilerRun {
    /// Name of the reconciler.
    #[serde(rename = "integration")]
    pub reconciler: String,
    /// Full run, some shards, or nothing.
    pub decision: ReconcileDecision,
    /// A short reason; `None` for a full run.
    pub reason: Option<String>,
    /// Shards to run; empty for a full run.
    pub runs: Vec<ReconcileShardRun>,
    /// Shards that are skipped, sorted by name.
    pub skipped: Vec<SkippedShard>,
    /// The compared inputs and states with their fingerprints.
    pub evidence: Json,
}

/// A shard to run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReconcileShardRun {
    /// Name of the shard.
    pub shard: String,
    /// Its differences, or another reason such as `--shard`.
    pub why: Vec<String>,
    /// Whether the shard could have been skipped and is run as a sample, to verify that.
    pub sampled: bool,
    /// The compared fingerprints of a sampled shard; otherwise null.
    pub evidence: Json,
}

/// A shard that is not run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SkippedShard {
    /// Name of the shard.
    pub shard: String,
    /// Fingerprints of the shard's part of the two desired states.
    pub evidence: Json,
}

impl DecidedRuns {
    /// Whether any reconciler or shard is run.
    pub fn has_runs(&self) -> bool {
        self.works
            .iter()
            .any(|work| work.decision == ReconcileDecision::Full || !work.runs.is_empty())
    }
}

impl ReconcilerRun {
    /// A full run of `reconciler`, without evidence.
    pub(crate) fn full_run(reconciler: &str) -> Self {
        Self {
            reconciler: reconciler.to_owned(),
            decision: ReconcileDecision::Full,
            reason: None,
            runs: Vec::new(),
            skipped: Vec::new(),
            evidence: Json::Null,
        }
    }
}
