//! What the kit has found.

use std::time::Duration;

use serde_json::{Value as Json, json};

/// How a check has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// As it should be.
    Ok,
    /// A fault of the integration.
    Failed,
    /// Not checked: something was not said, or cannot be seen.
    Skipped,
}

impl Outcome {
    /// The word.
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Ok => "ok",
            Outcome::Failed => "FAIL",
            Outcome::Skipped => "skipped",
        }
    }
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// Its name.
    pub name: &'static str,
    /// How it has ended.
    pub outcome: Outcome,
    /// What was seen, or why it was skipped.
    pub why: String,
    /// How long it took.
    pub took: Duration,
}

/// All checks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// In the order they were made.
    pub checks: Vec<Checked>,
    /// Messages that the integration had in hand to the last, so that they could not be taken back: they come to it again.
    pub left_behind: usize,
}

impl Report {
    /// How many have ended so.
    pub fn count(&self, outcome: Outcome) -> usize {
        self.checks.iter().filter(|checked| checked.outcome == outcome).count()
    }

    /// Whether no fault was found.
    pub fn holds(&self) -> bool {
        self.count(Outcome::Failed) == 0
    }

    /// For programs.
    pub fn to_json(&self) -> Json {
        let check = |checked: &Checked| {
            json!({
                "name": checked.name, "outcome": checked.outcome.name(), "why": checked.why,
                "seconds": (checked.took.as_secs_f64() * 1000.0).round() / 1000.0,
            })
        };
        json!({
            "holds": self.holds(), "ok": self.count(Outcome::Ok), "failed": self.count(Outcome::Failed),
            "skipped": self.count(Outcome::Skipped), "left_behind": self.left_behind,
            "checks": self.checks.iter().map(check).collect::<Vec<_>>(),
        })
    }
}

/// What a check has come to.
pub(super) struct Verdict {
    pub(super) outcome: Outcome,
    pub(super) why: String,
}

impl Verdict {
    pub(super) fn ok(why: impl Into<String>) -> Self {
        Self { outcome: Outcome::Ok, why: why.into() }
    }

    pub(super) fn failed(why: impl Into<String>) -> Self {
        Self { outcome: Outcome::Failed, why: why.into() }
    }

    pub(super) fn skipped(why: impl Into<String>) -> Self {
        Self { outcome: Outcome::Skipped, why: why.into() }
    }
}
