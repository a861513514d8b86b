//! The integration `schedules`: the bundle's schedules, into the control database.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::BoxFuture;
use reconcile::plan::Approval;
use reconcile::{Bundle, Context, Diagnostic, Document, Integration, NoArguments, Plan, RunError};
use serde_json::{Value as Json, json};
use sqlx::{PgConnection, PgPool};

use super::Scheduled;
use super::check::SCHEDULE_SCHEMA;
use super::plan::{Steps, Terms, plan};
use super::stored::{delete_in_tx, put_in_tx, read, tell_in_tx};

/// The integration's name.
pub const SCHEDULES: &str = "schedules";

/// Brings the schedules into the control database.
pub struct Schedules {
    /// The control database.
    pub pool: PgPool,
}

/// The schedules of a bundle, by name.
pub fn schedules_of(bundle: &Bundle) -> Result<Vec<Scheduled>, Diagnostic> {
    let all: Result<Vec<Scheduled>, _> = bundle.documents(SCHEDULE_SCHEMA).map(Document::parse).collect();
    all.map(sorted)
}

fn sorted(mut all: Vec<Scheduled>) -> Vec<Scheduled> {
    all.sort_by(|a, b| a.name.cmp(&b.name));
    all
}

impl Integration for Schedules {
    type Arguments = NoArguments;

    fn name(&self) -> &'static str {
        SCHEDULES
    }

    fn run<'a>(
        &'a self,
        context: &'a Context<'a>,
        _: NoArguments,
        dry_run: bool,
    ) -> BoxFuture<'a, Result<Plan, RunError>> {
        Box::pin(async move {
            let wanted: Arc<[Scheduled]> = sorted(context.query(SCHEDULE_SCHEMA)?).into();
            let terms = Terms { owner: context.owner, take_over: context.take_over };
            // A dry run has nothing to show to anybody.
            let approval = (!dry_run).then(|| context.approval());
            store::run_tx(&self.pool, "reconcile_schedules", move |connection| {
                let (wanted, approval) = (wanted.clone(), approval.clone());
                Box::pin(async move { run_in_tx(connection, &wanted, terms, approval).await })
            })
            .await?
        })
    }

    fn early_exit_desired_state(&self, context: &Context<'_>) -> Result<Option<Json>, RunError> {
        let wanted: Vec<Scheduled> = context.query(SCHEDULE_SCHEMA)?;
        let by_name: BTreeMap<String, Json> =
            wanted.into_iter().map(|scheduled| (scheduled.name.clone(), scheduled.to_json())).collect();
        Ok(Some(json!(by_name)))
    }
}

/// A real run has an approval.
async fn run_in_tx(
    connection: &mut PgConnection,
    wanted: &[Scheduled],
    terms: Terms,
    approval: Option<Approval>,
) -> store::Result<Result<Plan, RunError>> {
    match approval {
        None => reconcile::read_only_in_tx(connection).await?,
        Some(_) => reconcile::exclude_others_in_tx(connection, SCHEDULES).await?,
    }
    let (stored, _) = read(connection).await?;
    let mut steps = plan(&stored, wanted, terms);
    let target = stored.iter().map(|stored| json!([stored.scheduled.to_json(), stored.owner.name()]));
    steps.plan.observed(&target.collect::<Json>());
    if let Some(approval) = approval {
        if let Err(moved) = approval.check(&steps.plan) {
            return Ok(Err(moved));
        }
        store::fail_point("reconcile_planned");
        apply_in_tx(connection, &steps, terms).await?;
        store::fail_point("reconcile_applied");
    }
    Ok(Ok(steps.plan))
}

/// Writes what is planned.
pub async fn apply_in_tx(connection: &mut PgConnection, steps: &Steps, terms: Terms) -> store::Result<()> {
    for scheduled in &steps.put {
        put_in_tx(connection, scheduled, terms.owner).await?;
    }
    for name in &steps.delete {
        delete_in_tx(connection, name).await?;
    }
    if !steps.plan.changes.is_empty() {
        tell_in_tx(connection).await?;
    }
    reconcile::note_reconciled_in_tx(connection, SCHEDULES, terms.owner).await
}
