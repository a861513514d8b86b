//! The report of a conformance check.

use std::time::Duration;

use serde_json::{Value as Json, json};

/// The outcome of one check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IntegrationCheckOutcome {
    /// The integration conforms.
    Ok,
    /// The integration has a fault.
    Failed,
    /// Not checked: an option is missing, or the queue does not show it.
    Skipped,
}

impl IntegrationCheckOutcome {
    /// `ok`, `FAIL` or `skipped`.
    pub fn name(self) -> &'static str {
        match self {
            IntegrationCheckOutcome::Ok => "ok",
            IntegrationCheckOutcome::Failed => "FAIL",
            IntegrationCheckOutcome::Skipped => "skipped",
        }
    }
}

/// The result of one check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IntegrationCheckResult {
    /// Name of the check.
    pub name: &'static str,
    /// Outcome of the check.
    pub outcome: IntegrationCheckOutcome,
    /// The observation, or why the check was skipped.
    pub reason: String,
    /// Duration of the check.
    pub duration: Duration,
}

impl IntegrationCheckResult {
    fn to_json(&self) -> Json {
        json!({
            "name": self.name, "outcome": self.outcome.name(), "why": self.reason,
            "seconds": (self.duration.as_secs_f64() * 1000.0).round() / 1000.0,
        })
    }
}

/// The results of all checks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IntegrationCheckReport {
    /// Results in execution order.
    pub results: Vec<IntegrationCheckResult>,
    /// Messages in flight at the integration until the end, which could not be taken back: they
    /// are redelivered to it.
    pub left_behind: usize,
}

impl IntegrationCheckReport {
    /// The number of checks with this outcome.
    pub fn count_outcome(&self, outcome: IntegrationCheckOutcome) -> usize {
        self.results.iter().filter(|checked| checked.outcome == outcome).count()
    }

    /// Whether no check failed.
    pub fn has_passed(&self) -> bool {
        self.count_outcome(IntegrationCheckOutcome::Failed) == 0
    }

    /// The report as JSON.
    pub fn to_json(&self) -> Json {
        let checks: Vec<Json> = self.results.iter().map(IntegrationCheckResult::to_json).collect();
        json!({
            "holds": self.has_passed(), "ok": self.count_outcome(IntegrationCheckOutcome::Ok), "failed": self.count_outcome(IntegrationCheckOutcome::Failed),
            "skipped": self.count_outcome(IntegrationCheckOutcome::Skipped), "left_behind": self.left_behind,
            "checks": checks,
        })
    }
}

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
