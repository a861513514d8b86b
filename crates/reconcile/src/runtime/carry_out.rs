//! Running what was decided: integrations one after the other, shards of one side by side.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream;
use serde_json::Value as Json;

use super::erased::Erased;
use super::{Decided, Request, RequestError, ShardRun, Work};
use crate::metadata::{INTEGRATION_SCHEMA, Metadata};
use crate::plan::{Action, Approval};
use crate::report::{ShardOutcome, ShardStatus};
use crate::{Bundle, Context, Decision, Named, Outcome, Plan, Report, RunError, SavedPlan};

/// Shards that run at the same time, unless somebody says otherwise.
pub const POOL_SIZE: usize = 10;

/// Told what is being run: how much is done, of how much, and what is next.
pub type Progress = Arc<dyn Fn(usize, usize, &str) + Send + Sync>;

/// How it is run.
#[derive(Clone)]
pub struct Pace {
    /// Shards that run at the same time at most.
    pub pool_size: usize,
    /// Who wants to see it.
    pub progress: Option<Progress>,
}

impl Default for Pace {
    fn default() -> Self {
        Self { pool_size: POOL_SIZE, progress: None }
    }
}

impl fmt::Debug for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pace").field("pool_size", &self.pool_size).finish_non_exhaustive()
    }
}

/// A whole run.
struct Run<'a> {
    bundle: &'a Bundle,
    request: &'a Request,
    arguments: &'a Json,
    selected: Vec<&'static str>,
    saved: Option<&'a SavedPlan>,
    pace: &'a Pace,
    done: AtomicUsize,
    all: usize,
}

pub(super) async fn all(
    selected: &[&dyn Erased],
    bundle: &Bundle,
    request: &Request,
    arguments: &Json,
    decided: &Decided,
    pace: &Pace,
    saved: Option<&SavedPlan>,
) -> Result<Report, RequestError> {
    let works = selected.iter().map(|integration| {
        let work = decided.works.iter().find(|work| work.integration == integration.name());
        work.ok_or_else(|| RequestError::Usage(format!("nothing was decided about {}", integration.name())))
    });
    let works = works.collect::<Result<Vec<&Work>, _>>()?;
    let run = Run {
        bundle,
        request,
        arguments,
        selected: selected.iter().map(|integration| integration.name()).collect(),
        saved,
        pace,
        done: AtomicUsize::new(0),
        all: works.iter().map(|work| work.runs.len().max(1)).sum(),
    };
    let mut report = Report::new(request.dry_run, bundle, decided);
    for (integration, work) in selected.iter().zip(&works) {
        let outcome = run.work(*integration, work, &report.outcomes).await;
        report.outcomes.push(outcome);
    }
    // What was refused because of something that a later integration has changed by now.
    for (n, (integration, work)) in selected.iter().zip(&works).enumerate() {
        let refused = report.outcomes[n].refused() && work.decision == Decision::Full;
        if !request.dry_run && refused && report.outcomes[n + 1..].iter().any(Outcome::changed) {
            let again = run.once(*integration, run.arguments.clone(), &report.outcomes, true).await;
            report.outcomes[n].go_on(again);
        }
    }
    Ok(report)
}

impl Run<'_> {
    async fn work(&self, integration: &dyn Erased, work: &Work, outcomes: &[Outcome]) -> Outcome {
        if work.decision == Decision::Full {
            self.tell(integration.name());
            let plan = self.once(integration, self.arguments.clone(), outcomes, false).await;
            self.done.fetch_add(1, Ordering::Relaxed);
            return Outcome::new(work, plan);
        }
        if work.runs.is_empty() {
            self.done.fetch_add(1, Ordering::Relaxed);
        }
        let mut running: Vec<BoxFuture<'_, ShardOutcome>> = Vec::with_capacity(work.runs.len());
        for run in &work.runs {
            running.push(Box::pin(self.shard(integration, run, outcomes)));
        }
        let ran: Vec<ShardOutcome> =
            stream::iter(running).buffer_unordered(self.pace.pool_size.max(1)).collect().await;
        Outcome::of_shards(work, ran)
    }

    async fn shard(&self, integration: &dyn Erased, run: &ShardRun, outcomes: &[Outcome]) -> ShardOutcome {
        self.tell(&format!("{} {}", integration.name(), run.shard));
        let arguments = integration.for_shard(self.arguments.clone(), &run.shard);
        let plan = self.once(integration, arguments, outcomes, false).await;
        self.done.fetch_add(1, Ordering::Relaxed);
        let (plan, error) = match plan {
            Ok(plan) => (plan, None),
            Err(error) => (Plan::default(), Some(error.to_string())),
        };
        let error = error.or_else(|| wrongly_skipped(integration.name(), run, &plan));
        ShardOutcome {
            shard: run.shard.clone(),
            status: ShardStatus::of(error.is_none() && plan.refused.is_empty()),
            sampled: run.sampled,
            why: run.why.clone(),
            evidence: run.evidence.clone(),
            plan,
            error,
        }
    }

    async fn once(
        &self,
        integration: &dyn Erased,
        arguments: Json,
        outcomes: &[Outcome],
        again: bool,
    ) -> Result<Plan, RunError> {
        let name = integration.name();
        let metadata = match self.bundle.named(INTEGRATION_SCHEMA, name) {
            Named::Document(document) => document.parse::<Metadata>().map_err(RunError::Document)?,
            Named::Broken | Named::Nothing => {
                let place = self.bundle.place();
                return Err(RunError::Failed(format!("{place} has no metadata for the integration {name}")));
            }
        };
        let approved =
            |saved: &SavedPlan| Approval::only(saved.plan(name).cloned().unwrap_or_default(), again);
        let context = Context {
            integration: name,
            bundle: self.bundle,
            metadata,
            selected: &self.selected,
            outcomes,
            approval: self.saved.map(approved).unwrap_or_default(),
            owner: self.request.owner,
            take_over: self.request.take_over,
            allow_delete_all: self.request.allow_delete_all,
        };
        let done = integration.run(&context, arguments, self.request.dry_run).await;
        if !self.request.dry_run {
            store::fail_point("reconcile_done");
        }
        done
    }

    fn tell(&self, what: &str) {
        if let Some(progress) = &self.pace.progress {
            progress(self.done.load(Ordering::Relaxed), self.all, what);
        }
    }
}

/// What a shard that was skipped, and run all the same, should not have had to do.
fn wrongly_skipped(integration: &str, run: &ShardRun, plan: &Plan) -> Option<String> {
    if !run.sampled || plan.changes.is_empty() && plan.refused.is_empty() {
        return None;
    }
    let verb = |action| match action {
        Action::Create => "create",
        Action::Update => "update",
        Action::Delete => "delete",
    };
    let changes = plan.changes.iter().map(|change| (change.action, &change.kind, &change.name));
    let refused = plan.refused.iter().map(|refusal| (refusal.action, &refusal.kind, &refusal.name));
    let what: Vec<String> = changes
        .chain(refused)
        .take(3)
        .map(|(action, kind, name)| format!("{} {kind} {name}", verb(action)))
        .collect();
    Some(format!(
        "it was skipped and would have changed something ({}): the selectors of {integration} do not see all that is a \
         shard's, or its target is not as the bundle compared with said",
        what.join(", ")
    ))
}
