//! Integration `schedules`: reconciles the bundle's schedules with the control database.

use std::collections::BTreeMap;

use futures::future::BoxFuture;
use reconcile::owned::{
    OwnedObject, OwnedObjectSet, OwnedObjectTable, PlannedObjectWrites, StoredObject,
};
use reconcile::{
    Bundle, BundleDiagnostic, BundleDocument, NoArguments, ObjectOwner, OwnershipOptions,
    ReconcileContext, ReconcileError, ReconcilePlan, ReconcileTxResult, Reconciler,
};
use serde_json::{Value as Json, json};
use sqlx::{PgConnection, PgPool};
use store::Result;

use super::check::SCHEDULE_SCHEMA;
use super::stored::{
    delete_schedule_in_tx, notify_schedules_in_tx, put_schedule_in_tx, read_schedules,
};
use super::{StoredSchedule, TaskSchedule};

/// Name of the integration.
pub const SCHEDULES_INTEGRATION: &str = "schedules";

/// Reconciler of task schedules.
pub struct ScheduleReconciler {
    /// Pool of the control database.
    pub pool: PgPool,
}

/// Table `task_schedules` of the control database.
pub struct ScheduleTable;

/// Parses a bundle's schedules, sorted by name.
pub fn parse_schedules(
    bundle: &Bundle,
) -> std::result::Result<Vec<TaskSchedule>, BundleDiagnostic> {
    let all: std::result::Result<Vec<TaskSchedule>, _> =
        bundle.documents_of_schema(SCHEDULE_SCHEMA).map(BundleDocument::parse).collect();
    all.map(sort_by_name)
}

fn sort_by_name(mut all: Vec<TaskSchedule>) -> Vec<TaskSchedule> {
    all.sort_by(|a, b| a.name.cmp(&b.name));
    all
}

/// Desired set of all schedules.
pub fn desired_schedule_set(
    desired: Vec<TaskSchedule>,
    terms: OwnershipOptions,
) -> OwnedObjectSet<ScheduleTable> {
    OwnedObjectSet { table: ScheduleTable, desired, part: String::new(), options: terms }
}

impl Reconciler for ScheduleReconciler {
    type Arguments = NoArguments;

    fn name(&self) -> &'static str {
        SCHEDULES_INTEGRATION
    }

    fn run<'a>(
        &'a self,
        context: &'a ReconcileContext<'a>,
        _: NoArguments,
        dry_run: bool,
    ) -> BoxFuture<'a, std::result::Result<ReconcilePlan, ReconcileError>> {
        Box::pin(async move {
            let set = desired_schedule_set(
                context.query_documents(SCHEDULE_SCHEMA)?,
                context.ownership_options(),
            );
            let approval = context.approval_for_run(dry_run);
            Ok(reconcile::run_transaction(&self.pool, "reconcile_schedules", set, approval)
                .await?
                .0)
        })
    }

    fn early_exit_desired_state(
        &self,
        context: &ReconcileContext<'_>,
    ) -> std::result::Result<Option<Json>, ReconcileError> {
        let desired: Vec<TaskSchedule> = context.query_documents(SCHEDULE_SCHEMA)?;
        let by_name: BTreeMap<String, Json> = desired
            .into_iter()
            .map(|scheduled| (scheduled.name.clone(), scheduled.to_json()))
            .collect();
        Ok(Some(json!(by_name)))
    }
}

impl OwnedObject for TaskSchedule {
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
        TaskSchedule::to_json(self)
    }
}

impl StoredObject for StoredSchedule {
    type Object = TaskSchedule;

    fn object(&self) -> &TaskSchedule {
        &self.definition
    }

    fn owner(&self) -> ObjectOwner {
        self.owner
    }
}

impl OwnedObjectTable for ScheduleTable {
    type StoredObject = StoredSchedule;
    const RECONCILER_NAME: &'static str = SCHEDULES_INTEGRATION;

    fn read_in_tx<'a>(
        &'a self,
        connection: &'a mut PgConnection,
    ) -> BoxFuture<'a, ReconcileTxResult<Vec<StoredSchedule>>> {
        Box::pin(async move { Ok(Ok(read_schedules(connection).await?.0)) })
    }

    fn write_in_tx<'a>(
        &'a self,
        connection: &'a mut PgConnection,
        steps: &'a PlannedObjectWrites<TaskSchedule>,
        owner: ObjectOwner,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            for scheduled in &steps.upserts {
                put_schedule_in_tx(connection, scheduled, owner).await?;
            }
            for name in &steps.deletes {
                delete_schedule_in_tx(connection, name).await?;
            }
            if !steps.plan.changes.is_empty() {
                notify_schedules_in_tx(connection).await?;
            }
            Ok(())
        })
    }
}
