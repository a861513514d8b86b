//! The integration `schedules`: the bundle's schedules, into the control database.

use std::collections::BTreeMap;

use futures::future::BoxFuture;
use reconcile::owned::{Held, Keeper, Object, Set, Steps, Terms};
use reconcile::{
    Attempt, Bundle, Context, Diagnostic, Document, Integration, NoArguments, Owner, Plan, RunError,
};
use serde_json::{Value as Json, json};
use sqlx::{PgConnection, PgPool};
use store::Result;

use super::check::SCHEDULE_SCHEMA;
use super::stored::{delete_in_tx, put_in_tx, read, tell_in_tx};
use super::{Scheduled, Stored};

/// The integration's name.
pub const SCHEDULES: &str = "schedules";

/// Brings the schedules into the control database.
pub struct Schedules {
    /// The control database.
    pub pool: PgPool,
}

/// The schedules in the control database.
pub struct Kept;

/// The schedules of a bundle, by name.
pub fn schedules_of(bundle: &Bundle) -> std::result::Result<Vec<Scheduled>, Diagnostic> {
    let all: std::result::Result<Vec<Scheduled>, _> =
        bundle.documents(SCHEDULE_SCHEMA).map(Document::parse).collect();
    all.map(sorted)
}

fn sorted(mut all: Vec<Scheduled>) -> Vec<Scheduled> {
    all.sort_by(|a, b| a.name.cmp(&b.name));
    all
}

/// What brings all schedules to the wanted ones.
pub fn set(wanted: Vec<Scheduled>, terms: Terms) -> Set<Kept> {
    Set { keeper: Kept, wanted, part: String::new(), terms }
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
    ) -> BoxFuture<'a, std::result::Result<Plan, RunError>> {
        Box::pin(async move {
            let set = set(context.query(SCHEDULE_SCHEMA)?, context.terms());
            let approval = context.approval_of(dry_run);
            Ok(reconcile::carry_out(&self.pool, "reconcile_schedules", set, approval).await?.0)
        })
    }

    fn early_exit_desired_state(&self, context: &Context<'_>) -> std::result::Result<Option<Json>, RunError> {
        let wanted: Vec<Scheduled> = context.query(SCHEDULE_SCHEMA)?;
        let by_name: BTreeMap<String, Json> =
            wanted.into_iter().map(|scheduled| (scheduled.name.clone(), scheduled.to_json())).collect();
        Ok(Some(json!(by_name)))
    }
}

impl Object for Scheduled {
    type Id = String;

    fn id(&self) -> String {
        self.name.clone()
    }

    fn kind(&self) -> &'static str {
        "schedule"
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn to_json(&self) -> Json {
        Scheduled::to_json(self)
    }
}

impl Held for Stored {
    type Object = Scheduled;

    fn object(&self) -> &Scheduled {
        &self.scheduled
    }

    fn owner(&self) -> Owner {
        self.owner
    }
}

impl Keeper for Kept {
    type Held = Stored;
    const INTEGRATION: &'static str = SCHEDULES;

    fn read_in_tx<'a>(&'a self, connection: &'a mut PgConnection) -> BoxFuture<'a, Attempt<Vec<Stored>>> {
        Box::pin(async move { Ok(Ok(read(connection).await?.0)) })
    }

    fn write_in_tx<'a>(
        &'a self,
        connection: &'a mut PgConnection,
        steps: &'a Steps<Scheduled>,
        owner: Owner,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            for scheduled in &steps.put {
                put_in_tx(connection, scheduled, owner).await?;
            }
            for name in &steps.delete {
                delete_in_tx(connection, name).await?;
            }
            if !steps.plan.changes.is_empty() {
                tell_in_tx(connection).await?;
            }
            Ok(())
        })
    }
}
