//! The runtime: checks the bundle, decides what has to be run, and runs integrations over it, one after the other, in
//! their fixed order.

mod decided_runs;
mod erased;
mod execution;
mod narrowing;

use std::collections::BTreeMap;

use serde_json::Value as Json;

pub use decided_runs::{DecidedRuns, ReconcileShardRun, ReconcilerRun, SkippedShard};
use erased::ErasedReconciler;
pub use execution::{DEFAULT_POOL_SIZE, ProgressCallback, ReconcileOptions};
pub use narrowing::ReconcileNarrowing;

use crate::diagnostic::{list_names, suggest_name};
use crate::{
    Bundle, BundleCheck, BundleDiagnostic, ObjectOwner, ReconcileReport, Reconciler, SavedPlan,
    metadata, yaml,
};

/// All integrations and checks there are.
#[derive(Default)]
pub struct ReconcileRuntime {
    reconcilers: Vec<Box<dyn ErasedReconciler>>,
    checks: Vec<BundleCheck>,
}

/// What to run.
#[derive(Debug, Clone)]
pub struct ReconcileRequest {
    /// Which integrations; none: all of them.
    pub reconcilers: Vec<String>,
    /// Arguments of the one integration, as `key` and `value`.
    pub arguments: Vec<(String, String)>,
    /// Only plan.
    pub dry_run: bool,
    /// Take over what belongs to others.
    pub take_over: bool,
    /// Delete everything of a kind when the bundle has nothing of it.
    pub allow_delete_all: bool,
    /// Who owns what is written.
    pub owner: ObjectOwner,
}

/// Why nothing was run.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileRequestError {
    /// What was asked for does not exist.
    #[error("{0}")]
    InvalidUsage(String),
    /// The bundle is not sound.
    #[error("the bundle has {} problems", .0.len())]
    InvalidBundle(Vec<BundleDiagnostic>),
    /// A saved plan is not applied: what it is bound to has moved.
    #[error("{0}; nothing was applied, make a new plan")]
    StalePlan(String),
}

impl ReconcileRuntime {
    /// With these checks, and no integration yet.
    pub fn new(checks: Vec<BundleCheck>) -> Self {
        Self { reconcilers: Vec::new(), checks }
    }

    /// With one integration more; it runs after those before it.
    pub fn with_reconciler(mut self, reconciler: impl Reconciler) -> Self {
        self.reconcilers.push(Box::new(reconciler));
        self
    }

    /// The integrations' names, in the order in which they run.
    pub fn reconciler_names(&self) -> Vec<&'static str> {
        self.reconcilers.iter().map(|integration| integration.name()).collect()
    }

    /// Runs what is asked for, all of it.
    pub async fn run(
        &self,
        bundle: &Bundle,
        request: &ReconcileRequest,
    ) -> Result<ReconcileReport, ReconcileRequestError> {
        let decided = self.decide_runs(bundle, request, &ReconcileNarrowing::default()).await?;
        self.execute(bundle, request, &decided, &ReconcileOptions::default()).await
    }

    /// Whether what is asked for exists: before any bundle is read.
    pub fn check_request(
        &self,
        request: &ReconcileRequest,
        narrowing: &ReconcileNarrowing<'_>,
    ) -> Result<(), ReconcileRequestError> {
        let (selected, _) =
            self.select_reconcilers(request).map_err(ReconcileRequestError::InvalidUsage)?;
        match narrowing.shard {
            Some(_) => narrowing::check_one_sharded(&selected),
            None => Ok(()),
        }
    }

    /// Decides what has to be run; looks at bundles only.
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

    /// Runs what was decided.
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
            narrowing::check_requested_shard(*one, bundle, request, decided).await?;
        }
        execution::execute_all(&selected, bundle, request, &arguments, decided, options, None).await
    }

    /// Does what a saved plan says: all of that, or, if its bundle or any of its targets has moved, nothing.
    pub async fn apply(
        &self,
        bundle: &Bundle,
        saved_plan: &SavedPlan,
        owner: ObjectOwner,
        options: &ReconcileOptions,
    ) -> Result<ReconcileReport, ReconcileRequestError> {
        if bundle.fingerprint() != saved_plan.bundle {
            let place = bundle.source();
            return Err(ReconcileRequestError::StalePlan(format!(
                "{place} is not the one that the plan was made from"
            )));
        }
        let request = saved_plan.to_request(owner);
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
            let name = &outcome.integration;
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
        let is_selected = |name: &str| {
            request.reconcilers.is_empty()
                || request.reconcilers.iter().any(|wanted| wanted == name)
        };
        let integrations = self.reconcilers.iter().map(AsRef::as_ref);
        let selected: Vec<&dyn ErasedReconciler> =
            integrations.filter(|integration| is_selected(integration.name())).collect();
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

/// Everything that is wrong with a bundle.
pub fn find_bundle_problems(
    bundle: &Bundle,
    checks: &[BundleCheck],
    reconciler_names: &[&str],
) -> Vec<BundleDiagnostic> {
    let mut diagnostics = bundle.find_problems(checks);
    diagnostics.extend(metadata::check_metadata(bundle, reconciler_names));
    diagnostics.sort();
    diagnostics.dedup();
    diagnostics
}

/// A number is a number and a word is a text, as in YAML.
fn parse_arguments(arguments: &[(String, String)]) -> Json {
    let value = |text: &String| {
        yaml::read_tree(text).map_or_else(|_| text.as_str().into(), |tree| tree.to_json())
    };
    let typed: BTreeMap<&str, Json> =
        arguments.iter().map(|(key, text)| (key.as_str(), value(text))).collect();
    typed.into_iter().collect()
}
