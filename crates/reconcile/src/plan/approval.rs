//! What may be done: anything, or what somebody has seen and approved.

use std::sync::Arc;

use super::{PlanChange, ReconcilePlan};
use crate::ReconcileError;

/// A leave to do something; clones share it.
#[derive(Debug, Clone, Default)]
pub struct PlanApproval(Option<Arc<ApprovedPlan>>);

#[derive(Debug)]
struct ApprovedPlan {
    plan: ReconcilePlan,
    /// Whether part of the plan may have been done already, and the target have moved by that.
    may_be_partly_done: bool,
}

impl PlanApproval {
    /// Only what this plan says.
    pub(crate) fn for_plan(plan: ReconcilePlan, may_be_partly_done: bool) -> Self {
        Self(Some(Arc::new(ApprovedPlan { plan, may_be_partly_done })))
    }

    /// Looks at what is about to be written, within the transaction that is to write it: with an error, nothing may be.
    pub fn check(&self, plan: &ReconcilePlan) -> Result<(), ReconcileError> {
        let Some(approved) = &self.0 else { return Ok(()) };
        let moved =
            |(part, digest): (&String, &String)| approved.plan.target.get(part) != Some(digest);
        if !approved.may_be_partly_done && plan.target.iter().any(moved) {
            return Err(ReconcileError::StalePlan(
                "the target has moved since the plan was made".to_owned(),
            ));
        }
        let known = |change: &&PlanChange| approved.plan.changes.contains(change);
        match plan.changes.iter().find(|change| !known(change)) {
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
        let approved = plan(&["a", "b"], "then");
        let table = [
            (plan(&["a", "b"], "then"), true, true),
            // What was refused meanwhile is not done, and that is no harm.
            (plan(&["a"], "then"), true, true),
            (plan(&["a", "b"], "now"), false, true),
            (plan(&["a", "c"], "then"), false, false),
        ];
        for (found, first, again) in table {
            for (second, expected) in [(false, first), (true, again)] {
                let allowed =
                    PlanApproval::for_plan(approved.clone(), second).check(&found).is_ok();
                assert_eq!(allowed, expected, "{found:?}");
            }
        }
        assert!(PlanApproval::default().check(&approved).is_ok());
    }
}
