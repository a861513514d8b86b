//! Execution of the decided runs: reconcilers run sequentially, the shards of one concurrently.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream;
use serde_json::Value as Json;

use super::erased::ErasedReconciler;
use crate::bundle::{Bundle, DocumentLookup, METADATA_SCHEMA, ReconcilerMetadata};
use crate::decide::ReconcileDecision;
use crate::decided_runs::{DecidedRuns, ReconcileShardRun, ReconcilerRun};
use crate::error::ReconcileError;
use crate::plan::{PlanApproval, ReconcilePlan};
use crate::reconciler::ReconcileContext;
use crate::report::{
    ReconcileOutcome, ReconcileReport, ReconcileShardOutcome, ReconcileShardStatus,
};
use crate::request::{ReconcileRequest, ReconcileRequestError};
use crate::saved_plan::SavedPlan;

/// Default number of shards that run concurrently.
pub const DEFAULT_POOL_SIZE: usize = 10;

/// Progress callback: number of finished runs, total number of runs, name of the run that starts.
pub type ProgressCallback = Arc<dyn Fn(usize, usize, &str) + Send + Sync>;

/// Execution settings.
#[derive(Clone)]
pub struct ReconcileOptions {
    /// Maximum number of shards that run concurrently.
    pub pool_size: usize,
    /// Called before each run of a reconciler or shard.
    pub progress: Option<ProgressCallback>,
}

impl Default for ReconcileOptions {
    fn default() -> Self {
        Self { pool_size: DEFAULT_POOL_SIZE, progress: None }
    }
}

impl fmt::Debug for ReconcileOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReconcileOptions")
            .field("pool_size", &self.pool_size)
            .finish_non_exhaustive()
    }
}

/// State of one execution.
struct ReconcileExecution<'a> {
    bundle: &'a Bundle,
    request: &'a ReconcileRequest,
    arguments: &'a Json,
    selected: Vec<&'static str>,
    saved_plan: Option<&'a SavedPlan>,
    options: &'a ReconcileOptions,
    done_count: AtomicUsize,
    total_count: usize,
}

pub(super) async fn execute_all(
    selected: &[&dyn ErasedReconciler],
    bundle: &Bundle,
    request: &ReconcileRequest,
    arguments: &Json,
    decided: &DecidedRuns,
    options: &ReconcileOptions,
    saved_plan: Option<&SavedPlan>,
) -> Result<ReconcileReport, ReconcileRequestError> {
    let works = selected.iter().map(|reconciler| {
        let work = decided.works.iter().find(|work| work.reconciler == reconciler.name());
        work.ok_or_else(|| {
            ReconcileRequestError::InvalidUsage(format!(
                "nothing was decided about {}",
                reconciler.name()
            ))
        })
    });
    let works = works.collect::<Result<Vec<&ReconcilerRun>, _>>()?;
    let run = ReconcileExecution {
        bundle,
        request,
        arguments,
        selected: selected.iter().map(|reconciler| reconciler.name()).collect(),
        saved_plan,
        options,
        done_count: AtomicUsize::new(0),
        total_count: works.iter().map(|work| work.runs.len().max(1)).sum(),
    };
    let mut report = ReconcileReport::new(request.dry_run, bundle, decided);
    for (reconciler, work) in selected.iter().zip(&works) {
        let outcome = run.run_reconciler(*reconciler, work, &report.outcomes).await;
        report.outcomes.push(outcome);
    }
    // A full run's refusals may be obsolete after the changes of a later reconciler: it
    // runs a second time.
    for (n, (reconciler, work)) in selected.iter().zip(&works).enumerate() {
        let refused = report.outcomes[n].has_refusals() && work.decision == ReconcileDecision::Full;
        if !request.dry_run
            && refused
            && report.outcomes[n + 1..].iter().any(ReconcileOutcome::has_changes)
        {
            let retry_result =
                run.run_once(*reconciler, run.arguments.clone(), &report.outcomes, true).await;
            report.outcomes[n].add_retry(retry_result);
        }
    }
    Ok(report)
}

impl ReconcileExecution<'_> {
    async fn run_reconciler(
        &self,
        reconciler: &dyn ErasedReconciler,
        work: &ReconcilerRun,
        outcomes: &[ReconcileOutcome],
    ) -> ReconcileOutcome {
        if work.decision == ReconcileDecision::Full {
            self.report_progress(reconciler.name());
            let plan = self.run_once(reconciler, self.arguments.clone(), outcomes, false).await;
            self.done_count.fetch_add(1, Ordering::Relaxed);
            return ReconcileOutcome::new(work, plan);
        }
        if work.runs.is_empty() {
            self.done_count.fetch_add(1, Ordering::Relaxed);
        }
        let mut running: Vec<BoxFuture<'_, ReconcileShardOutcome>> =
            Vec::with_capacity(work.runs.len());
        for run in &work.runs {
            running.push(Box::pin(self.run_shard(reconciler, run, outcomes)));
        }
        let ran: Vec<ReconcileShardOutcome> =
            stream::iter(running).buffer_unordered(self.options.pool_size.max(1)).collect().await;
        ReconcileOutcome::from_shards(work, ran)
    }

    async fn run_shard(
        &self,
        reconciler: &dyn ErasedReconciler,
        shard_run: &ReconcileShardRun,
        outcomes: &[ReconcileOutcome],
    ) -> ReconcileShardOutcome {
        self.report_progress(&format!("{} {}", reconciler.name(), shard_run.shard));
        let arguments = reconciler.arguments_for_shard(self.arguments.clone(), &shard_run.shard);
        let plan = self.run_once(reconciler, arguments, outcomes, false).await;
        self.done_count.fetch_add(1, Ordering::Relaxed);
        let (plan, error) = match plan {
            Ok(plan) => (plan, None),
            Err(error) => (ReconcilePlan::default(), Some(error.to_string())),
        };
        let error = error.or_else(|| wrong_skip_reason(reconciler.name(), shard_run, &plan));
        ReconcileShardOutcome {
            shard: shard_run.shard.clone(),
            status: ReconcileShardStatus::from_success(error.is_none() && plan.refused.is_empty()),
            sampled: shard_run.sampled,
            why: shard_run.why.clone(),
            evidence: shard_run.evidence.clone(),
            plan,
            error,
        }
    }

    async fn run_once(
        &self,
        reconciler: &dyn ErasedReconciler,
        arguments: Json,
        outcomes: &[ReconcileOutcome],
        is_retry: bool,
    ) -> Result<ReconcilePlan, ReconcileError> {
        let name = reconciler.name();
        let metadata = match self.bundle.find_document(METADATA_SCHEMA, name) {
            DocumentLookup::Document(document) => {
                document.parse::<ReconcilerMetadata>().map_err(ReconcileError::InvalidDocument)?
            }
            DocumentLookup::Invalid | DocumentLookup::Missing => {
                let source = self.bundle.source();
                return Err(ReconcileError::Failed(format!(
                    "{source} has no metadata for the integration {name}"
                )));
            }
        };
        let approval = match self.saved_plan {
            Some(saved) => PlanApproval::for_plan(
                saved.plan_of(name).cloned().unwrap_or_default(),
                is_retry,
                self.request.actor.clone(),
            ),
            None => PlanApproval::of_any_change(self.request.actor.clone()),
        };
        let context = ReconcileContext {
            reconciler: name,
            bundle: self.bundle,
            metadata,
            selected: &self.selected,
            outcomes,
            approval,
            owner: self.request.owner,
            take_over: self.request.take_over,
            allow_delete_all: self.request.allow_delete_all,
        };
        let done = reconciler.run(&context, arguments, self.request.dry_run).await;
        if !self.request.dry_run {
            store::fail_point("reconcile_done");
        }
        done
    }

    fn report_progress(&self, what: &str) {
        if let Some(progress) = &self.options.progress {
            progress(self.done_count.load(Ordering::Relaxed), self.total_count, what);
        }
    }
}

/// Why a sampled shard should not have been skipped: its plan has changes or refusals.
fn wrong_skip_reason(
    reconciler: &str,
    shard_run: &ReconcileShardRun,
    plan: &ReconcilePlan,
) -> Option<String> {
    if !shard_run.sampled || plan.changes.is_empty() && plan.refused.is_empty() {
        return None;
    }
    let changes = plan.changes.iter().map(|change| (change.action, &change.kind, &change.name));
    let refused = plan.refused.iter().map(|refusal| (refusal.action, &refusal.kind, &refusal.name));
    let mut what = Vec::new();
    for (action, kind, name) in changes.chain(refused).take(3) {
        what.push(format!("{} {kind} {name}", action.name()));
    }
    Some(format!(
        "it was skipped and would have changed something ({}): the selectors of {reconciler} do not see all that is a \
         shard's, or its target is not as the bundle compared with said",
        what.join(", ")
    ))
}
