//! What was decided: what is run of each integration, and why, and why not the rest.

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::ReconcileDecision;

/// What was decided.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DecidedRuns {
    /// By integration, in their order.
    pub works: Vec<ReconcilerRun>,
    /// Why more is run than was hoped for.
    pub warnings: Vec<String>,
    /// The fingerprint of the bundle, if it was found to be sound in this process.
    #[serde(skip)]
    pub(super) checked_bundle: Option<String>,
}

/// What is run of an integration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReconcilerRun {
    /// Which integration.
    pub integration: String,
    /// How much.
    pub decision: ReconcileDecision,
    /// Why, in a few words, if it is not everything.
    pub reason: Option<String>,
    /// The shards that are run, if it is not everything.
    pub runs: Vec<ReconcileShardRun>,
    /// The shards that are not.
    pub skipped: Vec<SkippedShard>,
    /// What was compared: inputs and their fingerprints.
    pub evidence: Json,
}

/// A shard that is run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReconcileShardRun {
    /// Its name.
    pub shard: String,
    /// Its differences; or what else it is run for.
    pub why: Vec<String>,
    /// Whether it is run only to see that it could have been skipped.
    pub sampled: bool,
    /// What was compared, of one that could be skipped.
    pub evidence: Json,
}

/// A shard that is not run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SkippedShard {
    /// Its name.
    pub shard: String,
    /// What was compared: fingerprints of its part of the desired states.
    pub evidence: Json,
}

impl DecidedRuns {
    /// Whether anything is run at all.
    pub fn has_runs(&self) -> bool {
        self.works
            .iter()
            .any(|work| work.decision == ReconcileDecision::Full || !work.runs.is_empty())
    }
}

impl ReconcilerRun {
    /// Everything.
    pub(super) fn full_run(reconciler: &str) -> Self {
        Self {
            integration: reconciler.to_owned(),
            decision: ReconcileDecision::Full,
            reason: None,
            runs: Vec::new(),
            skipped: Vec::new(),
            evidence: Json::Null,
        }
    }
}
