//! The runtime: checks the bundle, decides what to run, and runs the reconcilers sequentially
//! in their registration order.

mod erased;
mod execution;
mod narrowing;
mod requested_shard;

use std::collections::BTreeMap;

use audit::AuditActor;
use serde_json::Value as Json;
use yaml::{list_names, suggest_name};

use erased::ErasedReconciler;
pub use execution::{DEFAULT_POOL_SIZE, ProgressCallback, ReconcileOptions};
pub use narrowing::ReconcileNarrowing;

use crate::bundle::{self, Bundle, BundleCheck};
use crate::decided_runs::DecidedRuns;
use crate::diagnostic::BundleDiagnostic;
use crate::owner::ObjectOwner;
use crate::reconciler::Reconciler;
use crate::report::ReconcileReport;
use crate::request::{ReconcileRequest, ReconcileRequestError};
use crate::saved_plan::SavedPlan;

/// The registered reconcilers and bundle checks.
#[derive(Default)]
pub struct ReconcileRuntime {
    reconcilers: Vec<Box<dyn ErasedReconciler>>,
    checks: Vec<BundleCheck>,
}

impl ReconcileRuntime {
    /// A runtime with these checks and no reconciler.
    pub fn new(checks: Vec<BundleCheck>) -> Self {
        Self { reconcilers: Vec::new(), checks }
    }

    /// Adds a reconciler, which runs after those registered before.
    pub fn with_reconciler(mut self, reconciler: impl Reconciler) -> Self {
        self.reconcilers.push(Box::new(reconciler));
        self
    }

    /// Names of the reconcilers in run order.
    pub fn reconciler_names(&self) -> Vec<&'static str> {
        self.reconcilers.iter().map(|reconciler| reconciler.name()).collect()
    }

    /// Runs all requested reconcilers in full.
    pub async fn run(
        &self,
        bundle: &Bundle,
        request: &ReconcileRequest,
    ) -> Result<ReconcileReport, ReconcileRequestError> {
        let decided = self.decide_runs(bundle, request, &ReconcileNarrowing::default()).await?;
        self.execute(bundle, request, &decided, &ReconcileOptions::default()).await
    }

    /// Validates names and arguments of the request; needs no bundle.
    pub fn check_request(
        &self,
        request: &ReconcileRequest,
        narrowing: &ReconcileNarrowing<'_>,
    ) -> Result<(), ReconcileRequestError> {
        let (selected, _) =
            self.select_reconcilers(request).map_err(ReconcileRequestError::InvalidUsage)?;
        match narrowing.shard {
            Some(_) => requested_shard::check_one_sharded(&selected),
            None => Ok(()),
        }
    }

    /// Decides what to run from the bundles only, without access to a target.
    pub async fn decide_runs(
        &self,
        bundle: &Bundle,
        request: &ReconcileRequest,
        narrowing: &ReconcileNarrowing<'_>,
    ) -> Result<DecidedRuns, ReconcileRequestError> {
        self.check_request(request, narrowing)?;
        let (selected, _) =
            self.select_reconcilers(request).map_err(ReconcileRequestError::InvalidUsage)?;
        self.check_bundle(bundle)?;
        let decided = narrowing::decide_runs(self, bundle, request, &selected, narrowing).await;
        Ok(DecidedRuns { checked_bundle: Some(bundle.fingerprint()), ..decided })
    }

    /// Runs what [`decide_runs`](Self::decide_runs) returned. Checks the bundle again if it is not
    /// the one checked there.
    pub async fn execute(
        &self,
        bundle: &Bundle,
        request: &ReconcileRequest,
        decided: &DecidedRuns,
        options: &ReconcileOptions,
    ) -> Result<ReconcileReport, ReconcileRequestError> {
        let (selected, arguments) =
            self.select_reconcilers(request).map_err(ReconcileRequestError::InvalidUsage)?;
        if decided.checked_bundle.as_ref() != Some(&bundle.fingerprint()) {
            self.check_bundle(bundle)?;
        }
        if let [one] = selected.as_slice() {
            requested_shard::check_requested_shard(*one, bundle, request, decided).await?;
        }
        execution::execute_all(&selected, bundle, request, &arguments, decided, options, None).await
    }

    /// Applies a saved plan completely. If the bundle or any target has changed
    /// since, nothing is applied.
    pub async fn apply(
        &self,
        bundle: &Bundle,
        saved_plan: &SavedPlan,
        owner: ObjectOwner,
        actor: AuditActor,
        options: &ReconcileOptions,
    ) -> Result<ReconcileReport, ReconcileRequestError> {
        if bundle.fingerprint() != saved_plan.bundle {
            let source = bundle.source();
            return Err(ReconcileRequestError::StalePlan(format!(
                "{source} is not the one that the plan was made from"
            )));
        }
        let request = saved_plan.to_request(owner, actor);
        let (selected, arguments) =
            self.select_reconcilers(&request).map_err(ReconcileRequestError::InvalidUsage)?;
        self.check_bundle(bundle)?;
        let dry_request = ReconcileRequest { dry_run: true, ..request.clone() };
        let dry_report = execution::execute_all(
            &selected,
            bundle,
            &dry_request,
            &arguments,
            &saved_plan.decided,
            options,
            None,
        )
        .await?;
        for outcome in &dry_report.outcomes {
            let name = &outcome.reconciler;
            if let Some(error) = &outcome.error {
                return Err(ReconcileRequestError::StalePlan(format!(
                    "the target of {name} cannot be looked at: {error}"
                )));
            }
            if saved_plan.plan_of(name) != Some(&outcome.plan) {
                return Err(ReconcileRequestError::StalePlan(format!(
                    "the target of {name} has moved since the plan was made"
                )));
            }
        }
        store::fail_point("reconcile_approved");
        execution::execute_all(
            &selected,
            bundle,
            &request,
            &arguments,
            &saved_plan.decided,
            options,
            Some(saved_plan),
        )
        .await
    }

    fn check_bundle(&self, bundle: &Bundle) -> Result<(), ReconcileRequestError> {
        let problems = find_bundle_problems(bundle, &self.checks, &self.reconciler_names());
        if problems.is_empty() {
            Ok(())
        } else {
            Err(ReconcileRequestError::InvalidBundle(problems))
        }
    }

    fn select_reconcilers(
        &self,
        request: &ReconcileRequest,
    ) -> Result<(Vec<&dyn ErasedReconciler>, Json), String> {
        for name in &request.reconcilers {
            if !self.reconciler_names().contains(&name.as_str()) {
                let (near, known) = (
                    suggest_name(name, self.reconciler_names()),
                    list_names(self.reconciler_names()),
                );
                return Err(format!("there is no integration `{name}`{near} (known: {known})"));
            }
        }
        let wanted = &request.reconcilers;
        let mut selected: Vec<&dyn ErasedReconciler> = Vec::new();
        for reconciler in &self.reconcilers {
            if wanted.is_empty() || wanted.iter().any(|wanted| wanted == reconciler.name()) {
                selected.push(reconciler.as_ref());
            }
        }
        let arguments = parse_arguments(&request.arguments);
        match selected.as_slice() {
            [one] => one
                .check_arguments(&arguments)
                .map_err(|reason| format!("--arg for {}: {reason}", one.name()))?,
            _ if !request.arguments.is_empty() => {
                return Err("--arg needs exactly one integration".to_owned());
            }
            _ => {}
        }
        Ok((selected, arguments))
    }
}

/// All problems of a bundle: schemas, checks and metadata; sorted and without duplicates.
pub fn find_bundle_problems(
    bundle: &Bundle,
    checks: &[BundleCheck],
    reconciler_names: &[&str],
) -> Vec<BundleDiagnostic> {
    let mut diagnostics = bundle.find_problems(checks);
    diagnostics.extend(bundle::check_metadata(bundle, reconciler_names));
    diagnostics.sort();
    diagnostics.dedup();
    diagnostics
}

/// Parses argument values as YAML: numbers become numbers, words become texts.
fn parse_arguments(arguments: &[(String, String)]) -> Json {
    let mut typed: BTreeMap<&str, Json> = BTreeMap::new();
    for (key, text) in arguments {
        let value = match yaml::read_tree(text) {
            Ok(tree) => tree.to_json(),
            Err(_) => text.as_str().into(),
        };
        typed.insert(key, value);
    }
    typed.into_iter().collect()
}
