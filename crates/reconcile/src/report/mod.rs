//! Reports of runs, as text and as JSON.

mod json;
mod shards;
mod text;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

pub use shards::{ReconcileShardOutcome, ReconcileShardStatus};

use crate::bundle::Bundle;
use crate::decide::ReconcileDecision;
use crate::decided_runs::{DecidedRuns, ReconcilerRun};
use crate::error::ReconcileError;
use crate::plan::{PlanAction, ReconcilePlan};

/// Outcome of one reconciler.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ReconcileOutcome {
    /// Name of the reconciler.
    #[serde(rename = "integration")]
    pub reconciler: String,
    /// Changes made, or planned in a dry run, over all shards.
    pub plan: ReconcilePlan,
    /// Error, if the run failed.
    pub error: Option<ReconcileError>,
    /// How much of the reconciler was run.
    pub decision: ReconcileDecision,
    /// Reason, if it was not run in full.
    pub reason: Option<String>,
    /// Shards, including skipped ones; empty for a full run.
    pub shards: Vec<ReconcileShardOutcome>,
    /// The comparison that the decision is based on.
    pub evidence: Json,
}

/// Report of a run over all selected reconcilers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ReconcileReport {
    /// Whether the run was a dry run.
    pub dry_run: bool,
    /// Name of the bundle, for messages.
    pub bundle: String,
    /// Fingerprint of the bundle in hexadecimal.
    pub sha256: String,
    /// Why narrowing was not possible and more was run.
    pub warnings: Vec<String>,
    /// Outcomes in run order.
    pub outcomes: Vec<ReconcileOutcome>,
}

impl ReconcileOutcome {
    pub(crate) fn new(run: &ReconcilerRun, plan: Result<ReconcilePlan, ReconcileError>) -> Self {
        let (plan, error) = match plan {
            Ok(plan) => (plan, None),
            Err(error) => (ReconcilePlan::default(), Some(error)),
        };
        Self {
            reconciler: run.reconciler.clone(),
            plan,
            error,
            decision: run.decision,
            reason: run.reason.clone(),
            shards: Vec::new(),
            evidence: run.evidence.clone(),
        }
    }

    /// Outcome of a reconciler whose shards were run separately.
    pub(crate) fn from_shards(
        run: &ReconcilerRun,
        mut outcomes: Vec<ReconcileShardOutcome>,
    ) -> Self {
        let all = outcomes.len();
        outcomes.sort_by(|a, b| a.shard.cmp(&b.shard));
        let mut plan = ReconcilePlan::default();
        for shard in outcomes.iter().filter(|shard| !shard.sampled) {
            plan.merge(shard.plan.clone());
        }
        let failed: Vec<&str> = outcomes
            .iter()
            .filter(|shard| shard.error.is_some())
            .map(|shard| shard.shard.as_str())
            .collect();
        let error = (!failed.is_empty()).then(|| {
            ReconcileError::Failed(format!(
                "{} of {all} shards failed: {}",
                failed.len(),
                failed.join(", ")
            ))
        });
        outcomes.extend(run.skipped.iter().map(ReconcileShardOutcome::from_skipped));
        Self { plan, error, shards: outcomes, ..Self::new(run, Ok(ReconcilePlan::default())) }
    }

    /// Whether there are changes, made or planned.
    pub fn has_changes(&self) -> bool {
        !self.plan.changes.is_empty()
    }

    /// Whether any change was refused.
    pub fn has_refusals(&self) -> bool {
        !self.plan.refused.is_empty()
    }

    /// Number of failed shards.
    pub fn failed_shard_count(&self) -> usize {
        self.plan.failed.len() + self.shards.iter().filter(|shard| shard.error.is_some()).count()
    }

    /// Whether the reconciler or any shard failed.
    pub fn has_failed(&self) -> bool {
        self.error.is_some() || self.failed_shard_count() > 0
    }

    /// Whether the target has, or would have, the full desired state.
    pub fn has_succeeded(&self) -> bool {
        !self.has_failed() && !self.has_refusals()
    }

    /// Adds the result of a second run, whose refusals replace the earlier ones.
    pub(crate) fn add_retry(&mut self, retry_result: Result<ReconcilePlan, ReconcileError>) {
        match retry_result {
            Ok(again) => {
                self.plan.changes.extend(again.changes);
                self.plan.adopted += again.adopted;
                self.plan.refused = again.refused;
                self.error = None;
            }
            Err(error) => self.error = Some(error),
        }
    }
}

impl ReconcileReport {
    pub(crate) fn new(dry_run: bool, bundle: &Bundle, decided: &DecidedRuns) -> Self {
        Self {
            dry_run,
            bundle: bundle.source().to_string(),
            sha256: bundle.fingerprint(),
            warnings: decided.warnings.clone(),
            outcomes: Vec::new(),
        }
    }

    /// Whether all targets have, or would have, the full desired state.
    pub fn has_succeeded(&self) -> bool {
        self.outcomes.iter().all(ReconcileOutcome::has_succeeded)
    }

    /// Whether any stored state differs from the bundle.
    pub fn has_drift(&self) -> bool {
        self.outcomes.iter().any(ReconcileOutcome::has_changes)
    }

    /// Number of changes with this action.
    pub fn count_changes(&self, action: PlanAction) -> usize {
        self.outcomes.iter().map(|outcome| outcome.plan.count_changes(action)).sum()
    }

    /// For example `1 of 2 reconcilers failed, 2 shards failed, 3 changes
    /// refused`; `None` without failures.
    pub fn failure_summary(&self) -> Option<String> {
        let failed = self.outcomes.iter().filter(|outcome| outcome.has_failed()).count();
        let shards: usize = self.outcomes.iter().map(ReconcileOutcome::failed_shard_count).sum();
        let refused: usize = self.outcomes.iter().map(|outcome| outcome.plan.refused.len()).sum();
        let mut complaints = Vec::new();
        if failed > 0 {
            complaints.push(format!("{failed} of {} integrations failed", self.outcomes.len()));
        }
        if shards > 0 {
            complaints.push(format!("{} failed", count_nouns(shards, "shard")));
        }
        if refused > 0 {
            complaints.push(format!("{} refused", count_nouns(refused, "change")));
        }
        (!complaints.is_empty()).then(|| complaints.join(", "))
    }
}

/// For example `1 shard` or `2 shards`.
fn count_nouns(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}
