//! The integration `schedules`: the bundle's schedules, into the control database.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::BoxFuture;
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
            let done = store::run_tx(&self.pool, "reconcile_schedules", move |connection| {
                let wanted = wanted.clone();
                Box::pin(async move { run_in_tx(connection, &wanted, terms, dry_run).await })
            });
            Ok(done.await?)
        })
    }

    fn early_exit_desired_state(&self, context: &Context<'_>) -> Result<Option<Json>, RunError> {
        let wanted: Vec<Scheduled> = context.query(SCHEDULE_SCHEMA)?;
        let by_name: BTreeMap<String, Json> =
            wanted.into_iter().map(|scheduled| (scheduled.name.clone(), scheduled.to_json())).collect();
        Ok(Some(json!(by_name)))
    }
}

async fn run_in_tx(
    connection: &mut PgConnection,
    wanted: &[Scheduled],
    terms: Terms,
    dry_run: bool,
) -> store::Result<Plan> {
    if dry_run {
        reconcile::read_only_in_tx(connection).await?;
    } else {
        reconcile::exclude_others_in_tx(connection, SCHEDULES).await?;
    }
    let (stored, _) = read(connection).await?;
    let steps = plan(&stored, wanted, terms);
    if !dry_run {
        apply_in_tx(connection, &steps, terms).await?;
    }
    Ok(steps.plan)
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
