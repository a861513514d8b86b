//! A report for programs.

use serde_json::{Value as Json, json};

use super::{Outcome, Report, ShardOutcome, ShardStatus};
use crate::plan::Action;

impl Report {
    /// For programs.
    pub fn to_json(&self) -> Json {
        let sum = |of: fn(&Outcome) -> usize| self.outcomes.iter().map(of).sum::<usize>();
        json!({
            "dry_run": self.dry_run,
            "bundle": {"place": self.bundle, "sha256": self.sha256},
            "warnings": self.warnings,
            "integrations": self.outcomes.iter().map(Outcome::to_json).collect::<Vec<_>>(),
            "summary": {
                "create": self.count(Action::Create),
                "update": self.count(Action::Update),
                "delete": self.count(Action::Delete),
                "refused": sum(|outcome| outcome.plan.refused.len()),
                "failed": self.outcomes.iter().filter(|outcome| !outcome.succeeded()).count(),
                "failed_shards": sum(Outcome::failed_shards),
                "skipped_shards": sum(|outcome| outcome.shards.iter().filter(|shard| shard.was_skipped()).count()),
            },
        })
    }
}

impl Outcome {
    fn to_json(&self) -> Json {
        let failed = self.plan.failed.iter().map(
            |failed| json!({"shard": failed.shard, "status": ShardStatus::Failed, "error": failed.reason}),
        );
        let shards: Vec<Json> = self.shards.iter().map(ShardOutcome::to_json).chain(failed).collect();
        json!({
            "name": self.integration,
            "status": if self.succeeded() { "succeeded" } else { "failed" },
            "run": self.decision,
            "reason": self.reason,
            "error": self.error.as_ref().map(ToString::to_string),
            "changes": self.plan.changes,
            "refused": self.plan.refused,
            "adopted": self.plan.adopted,
            "shards": shards,
            "failed_shards": self.failed_shards(),
            "evidence": self.evidence,
        })
    }
}

impl ShardOutcome {
    fn was_skipped(&self) -> bool {
        self.status == ShardStatus::Skipped
    }

    fn to_json(&self) -> Json {
        if self.was_skipped() {
            return json!({"shard": self.shard, "status": self.status, "evidence": self.evidence});
        }
        let [create, update, delete] =
            [Action::Create, Action::Update, Action::Delete].map(|action| self.plan.count(action));
        let mut json = json!({
            "shard": self.shard,
            "status": self.status,
            "why": self.why,
            "create": create,
            "update": update,
            "delete": delete,
            "refused": self.plan.refused.len(),
            "error": self.error,
        });
        if self.sampled {
            json["sampled"] = true.into();
            json["evidence"] = self.evidence.clone();
            json["changes"] = json!(self.plan.changes);
        }
        json
    }
}
