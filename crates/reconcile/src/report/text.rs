//! A report for people: a plan like other tools'. What others named or said is made printable: it cannot forge a line.

use std::fmt;

use serde_json::Value as Json;
use terminal::{escape_control_chars, escape_json_control_chars};

use super::{Outcome, Report, ShardOutcome};
use crate::Decision;
use crate::plan::{Action, Change, FieldChange};

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for outcome in &self.outcomes {
            write_head(f, outcome)?;
            write_outcome(f, outcome, self.dry_run)?;
        }
        let [create, update, delete] =
            [Action::Create, Action::Update, Action::Delete].map(|action| self.count(action));
        write!(f, "Plan: {create} to create, {update} to update, {delete} to delete")
    }
}

fn write_head(f: &mut fmt::Formatter<'_>, outcome: &Outcome) -> fmt::Result {
    let name = &outcome.integration;
    let reason = escape_control_chars(outcome.reason.as_deref().unwrap_or_default());
    match outcome.decision {
        Decision::Full => writeln!(f, "{name}"),
        Decision::EarlyExit => writeln!(f, "{name}: early exit: {reason}"),
        Decision::Skipped => writeln!(f, "{name}: skipped: {reason}"),
        Decision::Shards => {
            let ran = outcome.shards.iter().filter(|shard| !shard.why.is_empty() && !shard.sampled);
            let ran: Vec<&str> = ran.map(|shard| shard.shard.as_str()).collect();
            let skipped = outcome.shards.len() - ran.len();
            write!(f, "{name}: {reason}: {}", escape_control_chars(&ran.join(", ")))?;
            if skipped > 0 { writeln!(f, " ({skipped} skipped)") } else { writeln!(f) }
        }
    }
}

fn write_outcome(f: &mut fmt::Formatter<'_>, outcome: &Outcome, dry_run: bool) -> fmt::Result {
    for change in &outcome.plan.changes {
        write_change(f, change)?;
    }
    for refusal in &outcome.plan.refused {
        let (_, verb) = verb(refusal.action);
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
    for ShardOutcome { shard, error, .. } in &outcome.shards {
        if let Some(error) = error {
            writeln!(f, "  failed shard {}: {}", escape_control_chars(shard), escape_control_chars(error))?;
        }
    }
    let ran = matches!(outcome.decision, Decision::Full | Decision::Shards);
    match &outcome.error {
        Some(error) => writeln!(f, "  failed: {}", escape_control_chars(&error.to_string())),
        None if ran && outcome.plan.is_empty() => writeln!(f, "  nothing to do"),
        None => Ok(()),
    }
}

fn verb(action: Action) -> (char, &'static str) {
    match action {
        Action::Create => ('+', "create"),
        Action::Update => ('~', "update"),
        Action::Delete => ('-', "delete"),
    }
}

fn write_change(f: &mut fmt::Formatter<'_>, change: &Change) -> fmt::Result {
    let (sign, verb) = verb(change.action);
    writeln!(
        f,
        "  {sign} {verb} {} {}",
        escape_control_chars(&change.kind),
        escape_control_chars(&change.name)
    )?;
    if change.action == Action::Delete {
        return Ok(());
    }
    for FieldChange { field, before, after } in &change.fields {
        let field = escape_control_chars(field);
        let [before, after] = [before, after].map(|value| value.as_ref().map(shown));
        match (change.action, before, after) {
            (Action::Create, _, Some(_)) if field == "name" => {}
            (Action::Create, _, Some(after)) => writeln!(f, "      {field}: {after}")?,
            (_, Some(before), Some(after)) => writeln!(f, "      {field}: {before} -> {after}")?,
            (_, Some(before), None) => writeln!(f, "      {field}: - {before}")?,
            (_, None, Some(after)) => writeln!(f, "      {field}: + {after}")?,
            (_, None, None) => {}
        }
    }
    Ok(())
}

fn shown(value: &Json) -> String {
    escape_json_control_chars(&value.to_string()).into_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{Plan, RunError};

    #[test]
    fn what_others_named_cannot_forge_a_line() {
        let said = "n\u{1b}[2J\nPlan: 0 to create, 0 to update, 0 to delete\u{9b}";
        let mut plan = Plan::default();
        plan.update(
            "account_type",
            said,
            vec![FieldChange { field: said.to_owned(), before: Some(json!(said)), after: None }],
        );
        plan.refuse(Action::Delete, "account_type", said, said);
        let outcome = Outcome {
            integration: "types".to_owned(),
            plan,
            error: Some(RunError::Failed(said.to_owned())),
            decision: Decision::EarlyExit,
            reason: Some(said.to_owned()),
            shards: Vec::new(),
            evidence: json!(null),
        };
        let report = Report {
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
