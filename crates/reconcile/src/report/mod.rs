//! What a run did, for people and for programs.

mod json;
mod shards;
mod text;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

pub use shards::{ShardOutcome, ShardStatus};

use crate::plan::Action;
use crate::{Bundle, Decided, Decision, Plan, RunError, Work};

/// What became of one integration.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Outcome {
    /// Its name.
    pub integration: String,
    /// What it changed, or would change; in all its shards.
    pub plan: Plan,
    /// Why it failed.
    pub error: Option<RunError>,
    /// How much of it was run.
    pub decision: Decision,
    /// Why not everything.
    pub reason: Option<String>,
    /// Its shards, those that were skipped included, if it was not run as a whole.
    pub shards: Vec<ShardOutcome>,
    /// What was compared to decide that.
    pub evidence: Json,
}

/// What a run did, or would do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Report {
    /// Whether nothing was written.
    pub dry_run: bool,
    /// The bundle, for people.
    pub bundle: String,
    /// Its fingerprint.
    pub sha256: String,
    /// Why more was run than was hoped for.
    pub warnings: Vec<String>,
    /// What became of each integration, in order.
    pub outcomes: Vec<Outcome>,
}

impl Outcome {
    pub(crate) fn new(work: &Work, plan: Result<Plan, RunError>) -> Self {
        let (plan, error) = match plan {
            Ok(plan) => (plan, None),
            Err(error) => (Plan::default(), Some(error)),
        };
        Self {
            integration: work.integration.clone(),
            plan,
            error,
            decision: work.decision,
            reason: work.reason.clone(),
            shards: Vec::new(),
            evidence: work.evidence.clone(),
        }
    }

    /// Of shards that were run by themselves.
    pub(crate) fn of_shards(work: &Work, mut ran: Vec<ShardOutcome>) -> Self {
        let all = ran.len();
        ran.sort_by(|a, b| a.shard.cmp(&b.shard));
        let mut plan = Plan::default();
        for shard in ran.iter().filter(|shard| !shard.sampled) {
            plan.join(shard.plan.clone());
        }
        let failed: Vec<&str> =
            ran.iter().filter(|shard| shard.error.is_some()).map(|shard| shard.shard.as_str()).collect();
        let error = (!failed.is_empty()).then(|| {
            RunError::Failed(format!("{} of {all} shards failed: {}", failed.len(), failed.join(", ")))
        });
        ran.extend(work.skipped.iter().map(ShardOutcome::skipped));
        Self { plan, error, shards: ran, ..Self::new(work, Ok(Plan::default())) }
    }

    /// Whether it changed anything, or would.
    pub fn changed(&self) -> bool {
        !self.plan.changes.is_empty()
    }

    /// Whether it refused anything.
    pub fn refused(&self) -> bool {
        !self.plan.refused.is_empty()
    }

    /// How many of its shards failed.
    pub fn failed_shards(&self) -> usize {
        self.plan.failed.len() + self.shards.iter().filter(|shard| shard.error.is_some()).count()
    }

    /// Whether it, or any of its shards, failed.
    pub fn failed(&self) -> bool {
        self.error.is_some() || self.failed_shards() > 0
    }

    /// Whether all that is desired is, or would be, there.
    pub fn succeeded(&self) -> bool {
        !self.failed() && !self.refused()
    }

    /// Adds what a second round did; what that refused is what remains refused.
    pub(crate) fn go_on(&mut self, again: Result<Plan, RunError>) {
        match again {
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

impl Report {
    pub(crate) fn new(dry_run: bool, bundle: &Bundle, decided: &Decided) -> Self {
        Self {
            dry_run,
            bundle: bundle.place().to_string(),
            sha256: bundle.digest(),
            warnings: decided.warnings.clone(),
            outcomes: Vec::new(),
        }
    }

    /// Whether all that is desired is, or would be, there.
    pub fn succeeded(&self) -> bool {
        self.outcomes.iter().all(Outcome::succeeded)
    }

    /// Whether anything is not as the bundle says.
    pub fn drifted(&self) -> bool {
        self.outcomes.iter().any(Outcome::changed)
    }

    /// How many changes of a kind there are.
    pub fn count(&self, action: Action) -> usize {
        self.outcomes.iter().map(|outcome| outcome.plan.count(action)).sum()
    }

    /// `1 of 2 integrations failed, 2 shards failed, 3 changes refused`, if that is so.
    pub fn complaint(&self) -> Option<String> {
        let failed = self.outcomes.iter().filter(|outcome| outcome.failed()).count();
        let shards: usize = self.outcomes.iter().map(Outcome::failed_shards).sum();
        let refused: usize = self.outcomes.iter().map(|outcome| outcome.plan.refused.len()).sum();
        let counted = |count: usize, one: &str| match count {
            0 => None,
            1 => Some(format!("1 {one}")),
            count => Some(format!("{count} {one}s")),
        };
        let complaints: Vec<String> = [
            (failed > 0).then(|| format!("{failed} of {} integrations failed", self.outcomes.len())),
            counted(shards, "shard").map(|shards| format!("{shards} failed")),
            counted(refused, "change").map(|changes| format!("{changes} refused")),
        ]
        .into_iter()
        .flatten()
        .collect();
        (!complaints.is_empty()).then(|| complaints.join(", "))
    }
}
