//! Text form of a report. Escapes control characters in names and messages, so that
//! they cannot forge lines.

use std::fmt;

use serde_json::Value as Json;
use terminal::{escape_control_chars, escape_json_control_chars};

use super::{ReconcileOutcome, ReconcileReport, ReconcileShardOutcome};
use crate::decide::ReconcileDecision;
use crate::plan::{FieldChange, PlanAction, PlanChange};

impl fmt::Display for ReconcileReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for outcome in &self.outcomes {
            write_heading(f, outcome)?;
            write_outcome(f, outcome, self.dry_run)?;
        }
        let [create, update, delete] = [PlanAction::Create, PlanAction::Update, PlanAction::Delete]
            .map(|action| self.count_changes(action));
        write!(f, "Plan: {create} to create, {update} to update, {delete} to delete")
    }
}

fn write_heading(f: &mut fmt::Formatter<'_>, outcome: &ReconcileOutcome) -> fmt::Result {
    let name = &outcome.reconciler;
    let reason = escape_control_chars(outcome.reason.as_deref().unwrap_or_default());
    match outcome.decision {
        ReconcileDecision::Full => writeln!(f, "{name}"),
        ReconcileDecision::EarlyExit => writeln!(f, "{name}: early exit: {reason}"),
        ReconcileDecision::Skipped => writeln!(f, "{name}: skipped: {reason}"),
        ReconcileDecision::Shards => {
            let ran = outcome.shards.iter().filter(|shard| !shard.why.is_empty() && !shard.sampled);
            let ran: Vec<&str> = ran.map(|shard| shard.shard.as_str()).collect();
            let skipped = outcome.shards.len() - ran.len();
            write!(f, "{name}: {reason}: {}", escape_control_chars(&ran.join(", ")))?;
            if skipped > 0 { writeln!(f, " ({skipped} skipped)") } else { writeln!(f) }
        }
    }
}

fn write_outcome(
    f: &mut fmt::Formatter<'_>,
    outcome: &ReconcileOutcome,
    dry_run: bool,
) -> fmt::Result {
    for change in &outcome.plan.changes {
        write_change(f, change)?;
    }
    for refusal in &outcome.plan.refused {
        let verb = refusal.action.name();
        let [kind, name, reason] =
            [&refusal.kind, &refusal.name, &refusal.reason].map(|text| escape_control_chars(text));
        writeln!(f, "  ! refused to {verb} {kind} {name}: {reason}")?;
    }
    if outcome.plan.adopted > 0 {
        let tense = if dry_run { "would now belong" } else { "now belong" };
        writeln!(f, "  {} unchanged and nobody's, {tense} to the bundle", outcome.plan.adopted)?;
    }
    let sampled = outcome.shards.iter().filter(|shard| shard.sampled).count();
    if sampled > 0 {
        writeln!(f, "  {sampled} skipped shards run all the same")?;
    }
    for failed in &outcome.plan.failed {
        writeln!(
            f,
            "  failed shard {}: {}",
            escape_control_chars(&failed.shard),
            escape_control_chars(&failed.reason)
        )?;
    }
    for ReconcileShardOutcome { shard, error, .. } in &outcome.shards {
        if let Some(error) = error {
            writeln!(
                f,
                "  failed shard {}: {}",
                escape_control_chars(shard),
                escape_control_chars(error)
            )?;
        }
    }
    let ran = matches!(outcome.decision, ReconcileDecision::Full | ReconcileDecision::Shards);
    match &outcome.error {
        Some(error) => writeln!(f, "  failed: {}", escape_control_chars(&error.to_string())),
        None if ran && outcome.plan.is_empty() => writeln!(f, "  nothing to do"),
        None => Ok(()),
    }
}

/// Sign of a change in front of its line.
fn action_sign(action: PlanAction) -> char {
    match action {
        PlanAction::Create => '+',
        PlanAction::Update => '~',
        PlanAction::Delete => '-',
    }
}

fn write_change(f: &mut fmt::Formatter<'_>, change: &PlanChange) -> fmt::Result {
    let (sign, verb) = (action_sign(change.action), change.action.name());
    writeln!(
        f,
        "  {sign} {verb} {} {}",
        escape_control_chars(&change.kind),
        escape_control_chars(&change.name)
    )?;
    if change.action == PlanAction::Delete {
        return Ok(());
    }
    for FieldChange { field, before, after } in &change.fields {
        let field = escape_control_chars(field);
        let [before, after] = [before, after].map(|value| value.as_ref().map(show_value));
        match (change.action, before, after) {
            (PlanAction::Create, _, Some(_)) if field == "name" => {}
            (PlanAction::Create, _, Some(after)) => writeln!(f, "      {field}: {after}")?,
            (_, Some(before), Some(after)) => writeln!(f, "      {field}: {before} -> {after}")?,
            (_, Some(before), None) => writeln!(f, "      {field}: - {before}")?,
            (_, None, Some(after)) => writeln!(f, "      {field}: + {after}")?,
            (_, None, None) => {}
        }
    }
    Ok(())
}

fn show_value(value: &Json) -> String {
    escape_json_control_chars(&value.to_string()).into_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::error::ReconcileError;
    use crate::plan::ReconcilePlan;

    #[test]
    fn what_others_named_cannot_forge_a_line() {
        let said = "n\u{1b}[2J\nPlan: 0 to create, 0 to update, 0 to delete\u{9b}";
        let mut plan = ReconcilePlan::default();
        plan.add_update(
            "account_type",
            said,
            vec![FieldChange { field: said.to_owned(), before: Some(json!(said)), after: None }],
        );
        plan.add_refusal(PlanAction::Delete, "account_type", said, said);
        let outcome = ReconcileOutcome {
            reconciler: "types".to_owned(),
            plan,
            error: Some(ReconcileError::Failed(said.to_owned())),
            decision: ReconcileDecision::EarlyExit,
            reason: Some(said.to_owned()),
            shards: Vec::new(),
            evidence: json!(null),
        };
        let report = ReconcileReport {
            dry_run: true,
            bundle: "b".to_owned(),
            sha256: String::new(),
            warnings: Vec::new(),
            outcomes: vec![outcome],
        };
        let text = report.to_string();
        assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text:?}");
        assert_eq!(text.lines().filter(|line| line.starts_with("Plan:")).count(), 1, "{text}");
        assert_eq!(text.lines().count(), 6, "{text}");
    }
}
