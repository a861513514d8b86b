//! Outcome of a shard within a report.

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::decided_runs::SkippedShard;
use crate::plan::ReconcilePlan;

/// Outcome of one shard.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReconcileShardOutcome {
    /// Name of the shard.
    pub shard: String,
    /// Succeeded, failed or skipped.
    pub status: ReconcileShardStatus,
    /// Whether the shard was run as a sample, to verify that skipping it was right. Its changes are
    /// not part of the reconciler's plan.
    pub sampled: bool,
    /// Why it was run; empty if skipped.
    pub why: Vec<String>,
    /// The compared fingerprints of a skipped or sampled shard.
    pub evidence: Json,
    /// Changes made, or planned in a dry run.
    pub plan: ReconcilePlan,
    /// Error message, if it failed.
    pub error: Option<String>,
}

/// Status of a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReconcileShardStatus {
    /// The shard has, or would have, its desired state.
    Succeeded,
    /// An error or a refused change.
    Failed,
    /// The shard was not run.
    Skipped,
}

impl ReconcileShardStatus {
    pub(crate) fn from_success(succeeded: bool) -> Self {
        if succeeded { Self::Succeeded } else { Self::Failed }
    }
}

impl ReconcileShardOutcome {
    pub(crate) fn from_skipped(skipped: &SkippedShard) -> Self {
        Self {
            shard: skipped.shard.clone(),
            status: ReconcileShardStatus::Skipped,
            sampled: false,
            why: Vec::new(),
            evidence: skipped.evidence.clone(),
            plan: ReconcilePlan::default(),
            error: None,
        }
    }
}
