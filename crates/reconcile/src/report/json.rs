//! JSON form of a report.

use serde_json::{Value as Json, json};

use super::{ReconcileOutcome, ReconcileReport, ReconcileShardOutcome, ReconcileShardStatus};
use crate::plan::PlanAction;

impl ReconcileReport {
    /// The report as JSON, with a summary of counts.
    pub fn to_json(&self) -> Json {
        let outcomes = &self.outcomes;
        let refused: usize = outcomes.iter().map(|outcome| outcome.plan.refused.len()).sum();
        let failed_shards: usize = outcomes.iter().map(ReconcileOutcome::failed_shard_count).sum();
        let shards = outcomes.iter().flat_map(|outcome| &outcome.shards);
        json!({
            "dry_run": self.dry_run,
            "bundle": {"place": self.bundle, "sha256": self.sha256},
            "warnings": self.warnings,
            "integrations": outcomes.iter().map(ReconcileOutcome::to_json).collect::<Vec<_>>(),
            "summary": {
                "create": self.count_changes(PlanAction::Create),
                "update": self.count_changes(PlanAction::Update),
                "delete": self.count_changes(PlanAction::Delete),
                "refused": refused,
                "failed": outcomes.iter().filter(|outcome| !outcome.has_succeeded()).count(),
                "failed_shards": failed_shards,
                "skipped_shards": shards.filter(|shard| shard.is_skipped()).count(),
            },
        })
    }
}

impl ReconcileOutcome {
    fn to_json(&self) -> Json {
        let failed = self.plan.failed.iter().map(
            |failed| json!({"shard": failed.shard, "status": ReconcileShardStatus::Failed, "error": failed.reason}),
        );
        let shards: Vec<Json> =
            self.shards.iter().map(ReconcileShardOutcome::to_json).chain(failed).collect();
        json!({
            "name": self.reconciler,
            "status": if self.has_succeeded() { "succeeded" } else { "failed" },
            "run": self.decision,
            "reason": self.reason,
            "error": self.error.as_ref().map(ToString::to_string),
            "changes": self.plan.changes,
            "refused": self.plan.refused,
            "adopted": self.plan.adopted,
            "shards": shards,
            "failed_shards": self.failed_shard_count(),
            "evidence": self.evidence,
        })
    }
}

impl ReconcileShardOutcome {
    fn is_skipped(&self) -> bool {
        self.status == ReconcileShardStatus::Skipped
    }

    fn to_json(&self) -> Json {
        if self.is_skipped() {
            return json!({"shard": self.shard, "status": self.status, "evidence": self.evidence});
        }
        let [create, update, delete] = [PlanAction::Create, PlanAction::Update, PlanAction::Delete]
            .map(|action| self.plan.count_changes(action));
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
