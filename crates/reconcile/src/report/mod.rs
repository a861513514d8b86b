//! What a run did, for people and for programs.

mod json;
mod shards;
mod text;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

pub use shards::{ReconcileShardOutcome, ReconcileShardStatus};

use crate::plan::PlanAction;
use crate::{Bundle, DecidedRuns, ReconcileDecision, ReconcileError, ReconcilePlan, ReconcilerRun};

/// What became of one integration.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ReconcileOutcome {
    /// Its name.
    pub integration: String,
    /// What it changed, or would change; in all its shards.
    pub plan: ReconcilePlan,
    /// Why it failed.
    pub error: Option<ReconcileError>,
    /// How much of it was run.
    pub decision: ReconcileDecision,
    /// Why not everything.
    pub reason: Option<String>,
    /// Its shards, those that were skipped included, if it was not run as a whole.
    pub shards: Vec<ReconcileShardOutcome>,
    /// What was compared to decide that.
    pub evidence: Json,
}

/// What a run did, or would do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ReconcileReport {
    /// Whether nothing was written.
    pub dry_run: bool,
    /// The bundle, for people.
    pub bundle: String,
    /// Its fingerprint.
    pub sha256: String,
    /// Why more was run than was hoped for.
    pub warnings: Vec<String>,
    /// What became of each integration, in order.
    pub outcomes: Vec<ReconcileOutcome>,
}

impl ReconcileOutcome {
    pub(crate) fn new(run: &ReconcilerRun, plan: Result<ReconcilePlan, ReconcileError>) -> Self {
        let (plan, error) = match plan {
            Ok(plan) => (plan, None),
            Err(error) => (ReconcilePlan::default(), Some(error)),
        };
        Self {
            integration: run.integration.clone(),
            plan,
            error,
            decision: run.decision,
            reason: run.reason.clone(),
            shards: Vec::new(),
            evidence: run.evidence.clone(),
        }
    }

    /// Of shards that were run by themselves.
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

    /// Whether it changed anything, or would.
    pub fn has_changes(&self) -> bool {
        !self.plan.changes.is_empty()
    }

    /// Whether it refused anything.
    pub fn has_refusals(&self) -> bool {
        !self.plan.refused.is_empty()
    }

    /// How many of its shards failed.
    pub fn failed_shard_count(&self) -> usize {
        self.plan.failed.len() + self.shards.iter().filter(|shard| shard.error.is_some()).count()
    }

    /// Whether it, or any of its shards, failed.
    pub fn has_failed(&self) -> bool {
        self.error.is_some() || self.failed_shard_count() > 0
    }

    /// Whether all that is desired is, or would be, there.
    pub fn has_succeeded(&self) -> bool {
        !self.has_failed() && !self.has_refusals()
    }

    /// Adds what a second round did; what that refused is what remains refused.
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

    /// Whether all that is desired is, or would be, there.
    pub fn has_succeeded(&self) -> bool {
        self.outcomes.iter().all(ReconcileOutcome::has_succeeded)
    }

    /// Whether anything is not as the bundle says.
    pub fn has_drift(&self) -> bool {
        self.outcomes.iter().any(ReconcileOutcome::has_changes)
    }

    /// How many changes of a kind there are.
    pub fn count_changes(&self, action: PlanAction) -> usize {
        self.outcomes.iter().map(|outcome| outcome.plan.count_changes(action)).sum()
    }

    /// `1 of 2 integrations failed, 2 shards failed, 3 changes refused`, if that is so.
    pub fn failure_summary(&self) -> Option<String> {
        let failed = self.outcomes.iter().filter(|outcome| outcome.has_failed()).count();
        let shards: usize = self.outcomes.iter().map(ReconcileOutcome::failed_shard_count).sum();
        let refused: usize = self.outcomes.iter().map(|outcome| outcome.plan.refused.len()).sum();
        let counted = |count: usize, one: &str| match count {
            0 => None,
            1 => Some(format!("1 {one}")),
            count => Some(format!("{count} {one}s")),
        };
        let complaints: Vec<String> = [
            (failed > 0)
                .then(|| format!("{failed} of {} integrations failed", self.outcomes.len())),
            counted(shards, "shard").map(|shards| format!("{shards} failed")),
            counted(refused, "change").map(|changes| format!("{changes} refused")),
        ]
        .into_iter()
        .flatten()
        .collect();
        (!complaints.is_empty()).then(|| complaints.join(", "))
    }
}
