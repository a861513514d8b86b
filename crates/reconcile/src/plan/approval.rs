//! Approval of a run's changes: any change, or only those of a saved plan; and who gave it.

use std::sync::Arc;

use audit::AuditActor;

use super::{PlanChange, ReconcilePlan};
use crate::error::ReconcileError;

/// Permission to write, and who gave it; clones share the plan.
#[derive(Debug, Clone)]
pub struct PlanApproval {
    plan: Option<Arc<ApprovedPlan>>,
    actor: AuditActor,
}

#[derive(Debug)]
struct ApprovedPlan {
    plan: ReconcilePlan,
    /// Whether part of the plan may have been applied, so that the target has changed.
    may_be_partly_done: bool,
}

impl PlanApproval {
    /// Allows any change.
    pub fn of_any_change(actor: AuditActor) -> Self {
        Self { plan: None, actor }
    }

    /// Allows only the changes of `plan`.
    pub(crate) fn for_plan(
        plan: ReconcilePlan,
        may_be_partly_done: bool,
        actor: AuditActor,
    ) -> Self {
        Self { plan: Some(Arc::new(ApprovedPlan { plan, may_be_partly_done })), actor }
    }

    /// Who gave it: the actor of the changes in the audit trail.
    pub fn actor(&self) -> &AuditActor {
        &self.actor
    }

    /// Checks the plan that is about to be written, in the transaction that writes it. After an
    /// error, nothing may be written.
    pub fn check(&self, plan: &ReconcilePlan) -> Result<(), ReconcileError> {
        let Some(approved) = &self.plan else { return Ok(()) };
        let target = &approved.plan.target;
        if !approved.may_be_partly_done
            && plan.target.iter().any(|(part, digest)| target.get(part) != Some(digest))
        {
            return Err(ReconcileError::StalePlan(
                "the target has moved since the plan was made".to_owned(),
            ));
        }
        match plan.changes.iter().find(|change| !approved.plan.changes.contains(change)) {
            Some(PlanChange { kind, name, .. }) => Err(ReconcileError::StalePlan(format!(
                "the plan has no such change of {kind} {name}"
            ))),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_was_approved_of_the_target_that_it_was_approved_for() {
        let plan = |names: &[&str], target: &str| {
            let mut plan = ReconcilePlan::default();
            names.iter().for_each(|name| plan.add_create("t", name, &json!({})));
            plan.bind_target(&target);
            plan
        };
        let actor = AuditActor::of_service("test");
        let approved = plan(&["a", "b"], "then");
        let table = [
            (plan(&["a", "b"], "then"), true, true),
            // Omitting an approved change that is now refused is allowed.
            (plan(&["a"], "then"), true, true),
            (plan(&["a", "b"], "now"), false, true),
            (plan(&["a", "c"], "then"), false, false),
        ];
        for (found, first, again) in table {
            for (second, expected) in [(false, first), (true, again)] {
                let allowed =
                    PlanApproval::for_plan(approved.clone(), second, actor.clone()).check(&found);
                let allowed = allowed.is_ok();
                assert_eq!(allowed, expected, "{found:?}");
            }
        }
        assert!(PlanApproval::of_any_change(actor).check(&approved).is_ok());
    }
}
