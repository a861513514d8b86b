//! What a run did, for people and for programs.

use std::fmt;

use serde_json::{Value as Json, json};

use crate::plan::{Action, Change, FieldChange};
use crate::{Plan, RunError};

/// What became of one integration.
#[derive(Debug)]
pub struct Outcome {
    /// Its name.
    pub integration: &'static str,
    /// What it changed, or would change.
    pub plan: Plan,
    /// Why it failed.
    pub error: Option<RunError>,
}

/// What a run did, or would do.
#[derive(Debug)]
pub struct Report {
    /// Whether nothing was written.
    pub dry_run: bool,
    /// What became of each integration, in order.
    pub outcomes: Vec<Outcome>,
}

impl Outcome {
    pub(crate) fn new(integration: &'static str, plan: Result<Plan, RunError>) -> Self {
        match plan {
            Ok(plan) => Self { integration, plan, error: None },
            Err(error) => Self { integration, plan: Plan::default(), error: Some(error) },
        }
    }

    /// Whether it changed anything, or would.
    pub fn changed(&self) -> bool {
        !self.plan.changes.is_empty()
    }

    /// Whether it refused anything.
    pub fn refused(&self) -> bool {
        !self.plan.refused.is_empty()
    }

    /// Whether all that is desired is, or would be, there.
    pub fn succeeded(&self) -> bool {
        self.error.is_none() && !self.refused()
    }

    /// Adds what a second round did; what that refused is what remains refused.
    pub(crate) fn go_on(&mut self, again: Outcome) {
        self.plan.changes.extend(again.plan.changes);
        self.plan.adopted += again.plan.adopted;
        if again.error.is_none() {
            self.plan.refused = again.plan.refused;
        }
        self.error = again.error;
    }
}

impl Report {
    /// Whether all that is desired is, or would be, there.
    pub fn succeeded(&self) -> bool {
        self.outcomes.iter().all(Outcome::succeeded)
    }

    /// How many changes of a kind there are.
    pub fn count(&self, action: Action) -> usize {
        self.outcomes.iter().map(|outcome| outcome.plan.count(action)).sum()
    }

    /// `1 of 2 integrations failed, 3 changes refused`, if that is so.
    pub fn complaint(&self) -> Option<String> {
        let failed = self.outcomes.iter().filter(|outcome| outcome.error.is_some()).count();
        let refused: usize = self.outcomes.iter().map(|outcome| outcome.plan.refused.len()).sum();
        let failed = (failed > 0).then(|| format!("{failed} of {} integrations failed", self.outcomes.len()));
        let changes = if refused == 1 { "change" } else { "changes" };
        let refused = (refused > 0).then(|| format!("{refused} {changes} refused"));
        let complaints: Vec<String> = failed.into_iter().chain(refused).collect();
        (!complaints.is_empty()).then(|| complaints.join(", "))
    }

    /// For programs.
    pub fn to_json(&self) -> Json {
        let outcome = |outcome: &Outcome| {
            json!({
                "name": outcome.integration,
                "status": if outcome.succeeded() { "succeeded" } else { "failed" },
                "error": outcome.error.as_ref().map(ToString::to_string),
                "changes": outcome.plan.changes,
                "refused": outcome.plan.refused,
                "adopted": outcome.plan.adopted,
            })
        };
        json!({
            "dry_run": self.dry_run,
            "integrations": self.outcomes.iter().map(outcome).collect::<Vec<_>>(),
            "summary": {
                "create": self.count(Action::Create),
                "update": self.count(Action::Update),
                "delete": self.count(Action::Delete),
                "refused": self.outcomes.iter().map(|outcome| outcome.plan.refused.len()).sum::<usize>(),
                "failed": self.outcomes.iter().filter(|outcome| !outcome.succeeded()).count(),
            },
        })
    }
}

impl fmt::Display for Report {
    /// The plan, integration by integration, and its summary line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for outcome in &self.outcomes {
            writeln!(f, "{}", outcome.integration)?;
            outcome.plan.changes.iter().try_for_each(|change| write_change(f, change))?;
            for refusal in &outcome.plan.refused {
                let verb = verb(refusal.action).1;
                writeln!(f, "  ! refused to {verb} {} {}: {}", refusal.kind, refusal.name, refusal.reason)?;
            }
            if outcome.plan.adopted > 0 {
                let tense = if self.dry_run { "would now belong" } else { "now belong" };
                writeln!(f, "  {} unchanged and nobody's, {tense} to the bundle", outcome.plan.adopted)?;
            }
            match &outcome.error {
                Some(error) => writeln!(f, "  failed: {error}")?,
                None if outcome.plan == Plan::default() => writeln!(f, "  nothing to do")?,
                None => {}
            }
        }
        let [create, update, delete] =
            [Action::Create, Action::Update, Action::Delete].map(|action| self.count(action));
        write!(f, "Plan: {create} to create, {update} to update, {delete} to delete")
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
