//! One run over owned objects as a transaction.

use std::collections::BTreeSet;

use futures::future::BoxFuture;
use serde_json::{Value as Json, json};
use sqlx::PgPool;
use store::{PgConnection, Result};

use super::emptied_kinds::EmptiedKinds;
use super::plan::plan_object_part;
use super::{ObjectUsageCheck, OwnedObject, PlannedObjectWrites, StoredObject};
use crate::error::ReconcileError;
use crate::exclusion::record_reconciled_in_tx;
use crate::owner::OwnershipOptions;
use crate::plan::ReconcilePlan;
use crate::transaction::{ReconcileTransaction, ReconcileTxResult};

/// Desired state of all objects of a kind, or of one shard, as a [`ReconcileTransaction`].
pub struct OwnedObjectTransaction<T: OwnedObject> {
    /// The full desired state, also when the run covers one shard.
    pub desired: Vec<T>,
    /// The shard that the run covers; `None` for all.
    pub part: Option<String>,
    /// Usage lookup; `None` means that no object is in use.
    pub usage: Option<ObjectUsageCheck<T::Usage>>,
    /// Ownership and permissions of the run.
    pub options: OwnershipOptions,
}

impl<T: OwnedObject> OwnedObjectTransaction<T> {
    /// A run over all objects in a database in which no object is in use, such as a new one.
    pub fn for_unused_objects(desired: Vec<T>, options: OwnershipOptions) -> Self {
        Self { desired, part: None, usage: None, options }
    }

    /// Runs the transaction's usage queries beforehand, outside a transaction.
    pub(super) async fn check_usage_first(&self, pool: &PgPool) -> Result<(), ReconcileError> {
        let (mut stored, mut desired) = (read_stored::<T>(pool).await?, self.desired.clone());
        self.retain_part(&mut stored, &mut desired);
        T::check_refusals(self.usage.as_ref(), &stored, &desired, self.options).await.map(drop)
    }

    /// Reduces both states to the shard that this run covers. An object that moves from one shard
    /// to another is in both, so that neither run deletes it.
    fn retain_part(&self, stored: &mut Vec<StoredObject<T>>, desired: &mut Vec<T>) {
        let Some(part) = self.part.as_deref() else { return };
        let mut keys = BTreeSet::new();
        for object in stored.iter().map(|held| &held.object).chain(desired.iter()) {
            if object.shard() == Some(part) {
                keys.insert(owned_key(object));
            }
        }
        stored.retain(|held| keys.contains(&owned_key(&held.object)));
        desired.retain(|object| keys.contains(&owned_key(object)));
    }
}

fn owned_key<T: OwnedObject>(object: &T) -> (&'static str, String) {
    (object.kind(), object.name().to_owned())
}

/// All stored objects, read outside a transaction.
pub(super) async fn read_stored<T: OwnedObject>(
    pool: &PgPool,
) -> Result<Vec<StoredObject<T>>, ReconcileError> {
    store::run_statement(pool, T::READ_NAME, |connection| T::read_in_tx(connection)).await?
}

impl<T: OwnedObject> ReconcileTransaction for OwnedObjectTransaction<T> {
    type PlannedWrites = PlannedObjectWrites<T>;

    fn exclusive_names(&self) -> Vec<String> {
        vec![T::RECONCILER_NAME.to_owned()]
    }

    fn lock_writers_in_tx<'a>(
        &'a self,
        connection: &'a mut PgConnection,
    ) -> BoxFuture<'a, Result<()>> {
        T::lock_writers_in_tx(connection)
    }

    fn plan_in_tx<'a>(
        &'a self,
        connection: &'a mut PgConnection,
    ) -> BoxFuture<'a, ReconcileTxResult<(ReconcilePlan, Self::PlannedWrites)>> {
        Box::pin(async move {
            let mut stored = match T::read_in_tx(connection).await? {
                Ok(held) => held,
                Err(error) => return Ok(Err(error)),
            };
            let (mut desired, options) = (self.desired.clone(), self.options);
            let emptied = EmptiedKinds::find(&stored, &desired, options);
            self.retain_part(&mut stored, &mut desired);
            let check = T::check_refusals(self.usage.as_ref(), &stored, &desired, options).await;
            let refusal = match check {
                Ok(refusal) => refusal,
                Err(error) => return Ok(Err(error)),
            };
            let mut writes = plan_object_part(&stored, &desired, &refusal, options, &emptied);
            let part = self.part.as_deref().unwrap_or_default();
            writes.plan.bind_target_part(part, &target_state(&stored));
            Ok(Ok((writes.plan.clone(), writes)))
        })
    }

    fn write_in_tx<'a>(
        &'a self,
        connection: &'a mut PgConnection,
        writes: &'a Self::PlannedWrites,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            T::write_in_tx(connection, writes, self.options.owner).await?;
            record_reconciled_in_tx(connection, T::RECONCILER_NAME, self.options.owner).await
        })
    }
}

/// Plans and writes within the caller's transaction. The caller holds the locks;
/// no approval is needed.
pub async fn reconcile_in_tx<T: ReconcileTransaction>(
    transaction: &T,
    connection: &mut PgConnection,
) -> ReconcileTxResult<ReconcilePlan> {
    let (plan, writes) = match transaction.plan_in_tx(connection).await? {
        Ok(planned) => planned,
        Err(error) => return Ok(Err(error)),
    };
    transaction.write_in_tx(connection, &writes).await?;
    Ok(Ok(plan))
}

/// The stored state that a plan's fingerprint covers.
fn target_state<T: OwnedObject>(stored: &[StoredObject<T>]) -> Json {
    let mut rows = Vec::with_capacity(stored.len());
    for StoredObject { object, owner } in stored {
        rows.push(json!([object.kind(), object.to_json(), owner.name()]));
    }
    Json::Array(rows)
}
