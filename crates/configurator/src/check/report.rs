//! What the kit has found.

use std::time::Duration;

use serde_json::{Value as Json, json};

/// How a check has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IntegrationCheckOutcome {
    /// As it should be.
    Ok,
    /// A fault of the integration.
    Failed,
    /// Not checked: something was not said, or cannot be seen.
    Skipped,
}

impl IntegrationCheckOutcome {
    /// The word.
    pub fn name(self) -> &'static str {
        match self {
            IntegrationCheckOutcome::Ok => "ok",
            IntegrationCheckOutcome::Failed => "FAIL",
            IntegrationCheckOutcome::Skipped => "skipped",
        }
    }
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IntegrationCheckResult {
    /// Its name.
    pub name: &'static str,
    /// How it has ended.
    pub outcome: IntegrationCheckOutcome,
    /// What was seen, or why it was skipped.
    pub reason: String,
    /// How long it took.
    pub duration: Duration,
}

/// All checks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IntegrationCheckReport {
    /// In the order they were made.
    pub results: Vec<IntegrationCheckResult>,
    /// Messages that the integration had in hand to the last, so that they could not be taken back: they come to it again.
    pub left_behind: usize,
}

impl IntegrationCheckReport {
    /// How many have ended so.
    pub fn count_outcome(&self, outcome: IntegrationCheckOutcome) -> usize {
        self.results.iter().filter(|checked| checked.outcome == outcome).count()
    }

    /// Whether no fault was found.
    pub fn has_passed(&self) -> bool {
        self.count_outcome(IntegrationCheckOutcome::Failed) == 0
    }

    /// For programs.
    pub fn to_json(&self) -> Json {
        let check = |checked: &IntegrationCheckResult| {
            json!({
                "name": checked.name, "outcome": checked.outcome.name(), "why": checked.reason,
                "seconds": (checked.duration.as_secs_f64() * 1000.0).round() / 1000.0,
            })
        };
        json!({
            "holds": self.has_passed(), "ok": self.count_outcome(IntegrationCheckOutcome::Ok), "failed": self.count_outcome(IntegrationCheckOutcome::Failed),
            "skipped": self.count_outcome(IntegrationCheckOutcome::Skipped), "left_behind": self.left_behind,
            "checks": self.results.iter().map(check).collect::<Vec<_>>(),
        })
    }
}

/// What a check has come to.
pub(super) struct CheckFinding {
    pub(super) outcome: IntegrationCheckOutcome,
    pub(super) reason: String,
}

impl CheckFinding {
    pub(super) fn ok(why: impl Into<String>) -> Self {
        Self { outcome: IntegrationCheckOutcome::Ok, reason: why.into() }
    }

    pub(super) fn failed(why: impl Into<String>) -> Self {
        Self { outcome: IntegrationCheckOutcome::Failed, reason: why.into() }
    }

    pub(super) fn skipped(why: impl Into<String>) -> Self {
        Self { outcome: IntegrationCheckOutcome::Skipped, reason: why.into() }
    }
}
