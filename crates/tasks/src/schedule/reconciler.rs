//! Reconciler `schedules`: reconciles the bundle's schedules with the control database.

use futures::future::BoxFuture;
use reconcile::owned::{OwnedObject, OwnedObjectSet, PlannedObjectWrites, StoredObject};
use reconcile::{
    Bundle, BundleDiagnostic, BundleDocument, NoArguments, ObjectOwner, ReconcileContext,
    ReconcileError, ReconcileTxResult,
};
use serde_json::Value as Json;
use sqlx::PgConnection;
use store::Result;

use super::TaskSchedule;
use super::check::SCHEDULE_SCHEMA;
use super::stored::{
    delete_schedule_in_tx, notify_schedules_in_tx, put_schedule_in_tx, read_schedules,
};

/// Name of the reconciler.
pub const SCHEDULES_RECONCILER: &str = "schedules";

/// Reconciler of task schedules in the control database.
pub type ScheduleReconciler = OwnedObjectSet<TaskSchedule>;

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

impl OwnedObject for TaskSchedule {
    const RECONCILER_NAME: &'static str = SCHEDULES_RECONCILER;
    const TRANSACTION_NAME: &'static str = "reconcile_schedules";
    const READ_NAME: &'static str = "schedules_to_reconcile";

    type Id = String;
    type Arguments = NoArguments;
    type Usage = ();

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

    fn shard(&self) -> Option<&str> {
        None
    }

    fn requested_shard(_: NoArguments) -> Option<String> {
        None
    }

    fn find_desired(
        context: &ReconcileContext<'_>,
    ) -> std::result::Result<Vec<Self>, ReconcileError> {
        context.query_documents(SCHEDULE_SCHEMA)
    }

    fn read_in_tx(
        connection: &mut PgConnection,
    ) -> BoxFuture<'_, ReconcileTxResult<Vec<StoredObject<Self>>>> {
        Box::pin(async move {
            let (stored, _) = read_schedules(connection).await?;
            let objects = stored
                .into_iter()
                .map(|stored| StoredObject { object: stored.definition, owner: stored.owner });
            Ok(Ok(objects.collect()))
        })
    }

    fn write_in_tx<'a>(
        connection: &'a mut PgConnection,
        writes: &'a PlannedObjectWrites<Self>,
        owner: ObjectOwner,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            for scheduled in &writes.upserts {
                put_schedule_in_tx(connection, scheduled, owner).await?;
            }
            for name in &writes.deletes {
                delete_schedule_in_tx(connection, name).await?;
            }
            if !writes.plan.changes.is_empty() {
                notify_schedules_in_tx(connection).await?;
            }
            Ok(())
        })
    }
}
