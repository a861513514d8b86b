//! Integrations whose target is a set of named, owned objects in a database.
//!
//! - Shape: an [`OwnedObjectTable`] defines the objects and how they are read and written.
//! - Cost: one plan and one transaction for all objects.
//! - Lock order: the integration's advisory lock, then the table's writer lock, then rows.

mod emptied_kinds;
mod plan;

use futures::future::BoxFuture;
use serde_json::{Value as Json, json};
use store::{PgConnection, Result};

pub use emptied_kinds::delete_all_refusal;
pub use plan::{PlannedObjectWrites, plan_objects};

use crate::error::ReconcileError;
use crate::exclusion::record_reconciled_in_tx;
use crate::owner::{ObjectOwner, OwnershipOptions};
use crate::plan::ReconcilePlan;
use crate::transaction::{ReconcileTransaction, ReconcileTxResult};
use emptied_kinds::EmptiedKinds;
use plan::plan_object_part;

/// An object that a bundle describes and a database stores.
pub trait OwnedObject: Clone + Send + Sync + 'static {
    /// Key for deletion in the target.
    type Id: Clone + Send + Sync + 'static;
    /// The key by which the target deletes it.
    fn id(&self) -> Self::Id;
    /// Kind as shown in plans, such as `schedule`.
    fn kind(&self) -> &'static str;
    /// Name, unique within its kind.
    fn name(&self) -> &str;
    /// The fields that plans compare and show.
    fn to_json(&self) -> Json;
}

/// An object of the stored state.
pub trait StoredObject: Send + Sync + 'static {
    /// Type of the object without its owner.
    type Object: OwnedObject;
    /// The object without its owner.
    fn object(&self) -> &Self::Object;
    /// Owner recorded with the object.
    fn owner(&self) -> ObjectOwner;
}

/// Returns why an object must not be changed into another (`Some`) or deleted (`None`);
/// result `None` allows it.
pub type RefusalCheck<O> = Box<dyn Fn(&O, Option<&O>) -> Option<String> + Send + Sync>;

/// Object type of an [`OwnedObjectTable`].
pub type ObjectOf<K> = <<K as OwnedObjectTable>::StoredObject as StoredObject>::Object;

/// Reads and writes the stored objects of one integration.
pub trait OwnedObjectTable: Send + Sync + 'static {
    /// Type of its stored objects.
    type StoredObject: StoredObject;
    /// Integration name; real runs with the same name exclude each other.
    const RECONCILER_NAME: &'static str;

    /// Locks out other writers of the objects. Called in real runs only.
    fn lock_writers_in_tx<'a>(&'a self, _: &'a mut PgConnection) -> BoxFuture<'a, Result<()>> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// Reads all stored objects.
    fn read_in_tx<'a>(
        &'a self,
        connection: &'a mut PgConnection,
    ) -> BoxFuture<'a, ReconcileTxResult<Vec<Self::StoredObject>>>;

    /// Reduces both states to the part that this run covers; the default keeps everything.
    fn retain_part(
        &self,
        _stored: &mut Vec<Self::StoredObject>,
        _desired: &mut Vec<ObjectOf<Self>>,
        _options: OwnershipOptions,
    ) {
    }

    /// Checks for reasons against changing these objects; by default there are none.
    fn check_refusals<'a>(
        &'a self,
        _stored: &'a [Self::StoredObject],
        _desired: &'a [ObjectOf<Self>],
        _options: OwnershipOptions,
    ) -> BoxFuture<'a, Result<RefusalCheck<ObjectOf<Self>>, ReconcileError>> {
        Box::pin(std::future::ready(Ok(allow_every_change())))
    }

    /// Writes the changes and notifies the readers of the objects.
    fn write_in_tx<'a>(
        &'a self,
        connection: &'a mut PgConnection,
        writes: &'a PlannedObjectWrites<ObjectOf<Self>>,
        owner: ObjectOwner,
    ) -> BoxFuture<'a, Result<()>>;
}

/// A refusal check that allows every change.
pub fn allow_every_change<O>() -> RefusalCheck<O> {
    Box::new(|_, _| None)
}

/// Desired state of a table, or of a part of it, as a [`ReconcileTransaction`].
pub struct OwnedObjectSet<K: OwnedObjectTable> {
    /// The table that stores the objects.
    pub table: K,
    /// The full desired state, also when the run covers a part.
    pub desired: Vec<ObjectOf<K>>,
    /// Name of the part that the run covers, for the plan's fingerprint; empty for all.
    pub part: String,
    /// Ownership and permissions of the run.
    pub options: OwnershipOptions,
}

impl<K: OwnedObjectTable> ReconcileTransaction for OwnedObjectSet<K> {
    type PlannedWrites = PlannedObjectWrites<ObjectOf<K>>;

    fn exclusive_names(&self) -> Vec<String> {
        vec![K::RECONCILER_NAME.to_owned()]
    }

    fn lock_writers_in_tx<'a>(
        &'a self,
        connection: &'a mut PgConnection,
    ) -> BoxFuture<'a, Result<()>> {
        self.table.lock_writers_in_tx(connection)
    }

    fn plan_in_tx<'a>(
        &'a self,
        connection: &'a mut PgConnection,
    ) -> BoxFuture<'a, ReconcileTxResult<(ReconcilePlan, Self::PlannedWrites)>> {
        Box::pin(async move {
            let mut stored = match self.table.read_in_tx(connection).await? {
                Ok(held) => held,
                Err(error) => return Ok(Err(error)),
            };
            let mut desired = self.desired.clone();
            let emptied = EmptiedKinds::find(&stored, &desired, self.options);
            self.table.retain_part(&mut stored, &mut desired, self.options);
            let refusal = match self.table.check_refusals(&stored, &desired, self.options).await {
                Ok(refusal) => refusal,
                Err(error) => return Ok(Err(error)),
            };
            let mut writes = plan_object_part(&stored, &desired, &refusal, self.options, &emptied);
            writes.plan.bind_target_part(&self.part, &target_state(&stored));
            Ok(Ok((writes.plan.clone(), writes)))
        })
    }

    fn write_in_tx<'a>(
        &'a self,
        connection: &'a mut PgConnection,
        writes: &'a Self::PlannedWrites,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            self.table.write_in_tx(connection, writes, self.options.owner).await?;
            record_reconciled_in_tx(connection, K::RECONCILER_NAME, self.options.owner).await
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
fn target_state<H: StoredObject>(stored: &[H]) -> Json {
    let mut rows = Vec::with_capacity(stored.len());
    for held in stored {
        let object = held.object();
        rows.push(json!([object.kind(), object.to_json(), held.owner().name()]));
    }
    Json::Array(rows)
}
