//! A report for people: a plan like other tools'.

use std::fmt;

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
    let reason = outcome.reason.as_deref().unwrap_or_default();
    match outcome.decision {
        Decision::Full => writeln!(f, "{name}"),
        Decision::EarlyExit => writeln!(f, "{name}: early exit: {reason}"),
        Decision::Skipped => writeln!(f, "{name}: skipped: {reason}"),
        Decision::Shards => {
            let ran = outcome.shards.iter().filter(|shard| !shard.why.is_empty() && !shard.sampled);
            let ran: Vec<&str> = ran.map(|shard| shard.shard.as_str()).collect();
            let skipped = outcome.shards.len() - ran.len();
            write!(f, "{name}: {reason}: {}", ran.join(", "))?;
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
        writeln!(f, "  ! refused to {verb} {} {}: {}", refusal.kind, refusal.name, refusal.reason)?;
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
        writeln!(f, "  failed shard {}: {}", failed.shard, failed.reason)?;
    }
    for ShardOutcome { shard, error, .. } in &outcome.shards {
        if let Some(error) = error {
            writeln!(f, "  failed shard {shard}: {error}")?;
        }
    }
    let ran = matches!(outcome.decision, Decision::Full | Decision::Shards);
    match &outcome.error {
        Some(error) => writeln!(f, "  failed: {error}"),
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
    writeln!(f, "  {sign} {verb} {} {}", change.kind, change.name)?;
    if change.action == Action::Delete {
        return Ok(());
    }
    for FieldChange { field, before, after } in &change.fields {
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
