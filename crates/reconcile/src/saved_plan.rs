//! A plan in a file: what was seen, to be done later, or not at all.

use serde::{Deserialize, Serialize};

use crate::{Bundle, DecidedRuns, ObjectOwner, ReconcilePlan, ReconcileReport, ReconcileRequest};

/// The version of the file's shape.
pub const SAVED_PLAN_VERSION: u32 = 1;

/// A plan bound to the bundle that it was made from, and through [`ReconcilePlan::target`] to the state of its targets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedPlan {
    /// The version of its shape.
    pub version: u32,
    /// The bundle's fingerprint.
    pub bundle: String,
    /// What was asked for.
    pub arguments: Vec<(String, String)>,
    /// Whether what belongs to others is taken over.
    pub take_over: bool,
    /// Whether everything of a kind may be deleted.
    #[serde(default)]
    pub allow_delete_all: bool,
    /// What is run.
    pub decided: DecidedRuns,
    /// What is done, by integration.
    pub plans: Vec<(String, ReconcilePlan)>,
}

impl SavedPlan {
    /// The plan that a dry run made.
    pub fn from_report(
        bundle: &Bundle,
        request: &ReconcileRequest,
        decided: &DecidedRuns,
        report: &ReconcileReport,
    ) -> Self {
        let plans = report
            .outcomes
            .iter()
            .map(|outcome| (outcome.integration.clone(), outcome.plan.clone()));
        Self {
            version: SAVED_PLAN_VERSION,
            bundle: bundle.fingerprint(),
            arguments: request.arguments.clone(),
            take_over: request.take_over,
            allow_delete_all: request.allow_delete_all,
            decided: decided.clone(),
            plans: plans.collect(),
        }
    }

    /// Reads what was saved.
    pub fn parse(text: &str) -> Result<Self, String> {
        let saved: Self =
            serde_json::from_str(text).map_err(|error| format!("it is no plan: {error}"))?;
        match saved.version {
            SAVED_PLAN_VERSION => Ok(saved),
            other => Err(format!(
                "it is of the version {other}; this program makes and applies {SAVED_PLAN_VERSION}"
            )),
        }
    }

    /// What applying it asks for.
    pub fn to_request(&self, owner: ObjectOwner) -> ReconcileRequest {
        ReconcileRequest {
            reconcilers: self.plans.iter().map(|(name, _)| name.clone()).collect(),
            arguments: self.arguments.clone(),
            dry_run: false,
            take_over: self.take_over,
            allow_delete_all: self.allow_delete_all,
            owner,
        }
    }

    /// What is done by an integration.
    pub(crate) fn plan_of(&self, reconciler: &str) -> Option<&ReconcilePlan> {
        self.plans.iter().find(|(name, _)| name == reconciler).map(|(_, plan)| plan)
    }
}
