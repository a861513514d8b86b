//! The changes of a plan as entries of the audit trail.

use audit::{AuditAction, AuditDifference, AuditEntry};

use crate::plan::{PlanAction, PlanChange, ReconcilePlan};

/// Changes of one plan that have an entry each; more are one entry with their number.
const MAX_DETAILED_CHANGES: usize = 1000;

/// An entry for each change. Unchanged objects whose owner becomes the bundle are one entry together,
/// with their number.
pub fn audit_entries(plan: &ReconcilePlan) -> Vec<AuditEntry> {
    let mut detailed: Vec<&PlanChange> = plan.changes.iter().collect();
    // What is gone can be looked up nowhere else.
    detailed.sort_by_key(|change| match change.action {
        PlanAction::Delete => 0,
        PlanAction::Update => 1,
        PlanAction::Create => 2,
    });
    detailed.truncate(MAX_DETAILED_CHANGES);
    let mut entries: Vec<AuditEntry> = detailed.iter().map(|change| change_entry(change)).collect();
    let more = plan.changes.len() - detailed.len();
    if more > 0 || plan.adopted > 0 {
        let difference = AuditDifference::default()
            .with_fact("more_changes", more)
            .with_fact("adopted", plan.adopted);
        entries.push(AuditEntry::new(
            AuditAction::ReconcileApply,
            "objects",
            "counted",
            &difference,
        ));
    }
    entries
}

fn change_entry(change: &PlanChange) -> AuditEntry {
    let mut difference = AuditDifference::default().with_fact("action", change.action.name());
    for field in &change.fields {
        difference = difference.with_field(&field.field, field.before.clone(), field.after.clone());
    }
    AuditEntry::new(AuditAction::ReconcileApply, &change.kind, &change.name, &difference)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn many_changes_are_detailed_up_to_a_limit_and_then_counted() {
        let mut plan = ReconcilePlan::default();
        assert!(audit_entries(&plan).is_empty(), "nothing was changed");
        for n in 0..MAX_DETAILED_CHANGES {
            plan.add_create("schedule", &n.to_string(), &json!({}));
        }
        assert_eq!(audit_entries(&plan).len(), MAX_DETAILED_CHANGES);
        plan.add_create("schedule", "one more", &json!({}));
        let last = audit_entries(&plan).pop();
        let counted =
            AuditDifference::default().with_fact("more_changes", 1).with_fact("adopted", 0);
        let expected = AuditEntry::new(AuditAction::ReconcileApply, "objects", "counted", &counted);
        assert_eq!(last, Some(expected));
    }
}
