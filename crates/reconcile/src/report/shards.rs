//! What became of a shard.

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::{ReconcilePlan, SkippedShard};

/// What became of a shard.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReconcileShardOutcome {
    /// Its name.
    pub shard: String,
    /// What became of it.
    pub status: ReconcileShardStatus,
    /// Whether it was run only to see that it could have been skipped. What it would change is then in nobody's plan.
    pub sampled: bool,
    /// Why it was run.
    pub why: Vec<String>,
    /// What was compared, of one that could be skipped.
    pub evidence: Json,
    /// What it changed, or would change.
    pub plan: ReconcilePlan,
    /// Why it failed.
    pub error: Option<String>,
}

/// What became of a shard, in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReconcileShardStatus {
    /// It is, or would be, as desired.
    Succeeded,
    /// It is not.
    Failed,
    /// It was not looked at.
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
