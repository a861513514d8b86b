//! Saved plans: a plan in a file, reviewed and applied later.

use audit::AuditActor;
use serde::{Deserialize, Serialize};

use crate::bundle::Bundle;
use crate::decided_runs::DecidedRuns;
use crate::owner::ObjectOwner;
use crate::plan::ReconcilePlan;
use crate::report::ReconcileReport;
use crate::request::ReconcileRequest;

/// Version of the file format.
pub const SAVED_PLAN_VERSION: u32 = 1;

/// A plan bound to its bundle, and through [`ReconcilePlan::target`] to the state of its targets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedPlan {
    /// Version of the format, [`SAVED_PLAN_VERSION`].
    pub version: u32,
    /// Fingerprint of the bundle in hexadecimal.
    pub bundle: String,
    /// Arguments of the request, as key and value.
    pub arguments: Vec<(String, String)>,
    /// Whether objects of other owners are taken over.
    pub take_over: bool,
    /// Whether all objects of a kind may be deleted.
    #[serde(default)]
    pub allow_delete_all: bool,
    /// The reconcilers and shards to run.
    pub decided: DecidedRuns,
    /// Plans by reconciler, in run order.
    pub plans: Vec<(String, ReconcilePlan)>,
}

impl SavedPlan {
    /// Saves the plan of a dry run.
    pub fn from_report(
        bundle: &Bundle,
        request: &ReconcileRequest,
        decided: &DecidedRuns,
        report: &ReconcileReport,
    ) -> Self {
        let plans = report
            .outcomes
            .iter()
            .map(|outcome| (outcome.reconciler.clone(), outcome.plan.clone()));
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

    /// Parses a saved plan and checks its version.
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

    /// The request that applies this plan.
    pub fn to_request(&self, owner: ObjectOwner, actor: AuditActor) -> ReconcileRequest {
        ReconcileRequest {
            reconcilers: self.plans.iter().map(|(name, _)| name.clone()).collect(),
            arguments: self.arguments.clone(),
            dry_run: false,
            take_over: self.take_over,
            allow_delete_all: self.allow_delete_all,
            owner,
            actor,
        }
    }

    /// The plan of one reconciler.
    pub(crate) fn plan_of(&self, reconciler: &str) -> Option<&ReconcilePlan> {
        self.plans.iter().find(|(name, _)| name == reconciler).map(|(_, plan)| plan)
    }
}
