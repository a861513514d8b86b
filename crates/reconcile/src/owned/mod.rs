//! Integrations whose target is a set of named objects in a database, each with its owner: one plan and one transaction
//! for all of them. What an object is, and how it is read and written, is its [`OwnedObjectTable`]'s.

mod emptied_kinds;
mod plan;

use futures::future::BoxFuture;
use serde_json::{Value as Json, json};
use store::{PgConnection, Result};

pub use emptied_kinds::delete_all_refusal;
pub use plan::{PlannedObjectWrites, plan_objects};

use crate::{
    ObjectOwner, ReconcileError, ReconcilePlan, ReconcileTransaction, ReconcileTxResult,
    record_reconciled_in_tx,
};
use emptied_kinds::EmptiedKinds;
use plan::plan_object_part;

/// Something that a bundle describes and a database keeps.
pub trait OwnedObject: Clone + Send + Sync + 'static {
    /// By which it is deleted.
    type Id: Clone + Send + Sync + 'static;
    /// By which it is deleted.
    fn id(&self) -> Self::Id;
    /// What it is called in plans, such as `schedule`.
    fn kind(&self) -> &'static str;
    /// Its name, unique within its kind.
    fn name(&self) -> &str;
    /// As it is compared and shown.
    fn to_json(&self) -> Json;
}

/// An object that is there.
pub trait StoredObject: Send + Sync + 'static {
    /// What is held.
    type Object: OwnedObject;
    /// The object.
    fn object(&self) -> &Self::Object;
    /// Whose it is.
    fn owner(&self) -> ObjectOwner;
}

/// Who wants it.
#[derive(Debug, Clone, Copy)]
pub struct OwnershipOptions {
    /// Who owns what is written.
    pub owner: ObjectOwner,
    /// Whether what belongs to others is taken over.
    pub take_over: bool,
    /// Whether everything of a kind may be deleted when nothing of it is wanted.
    pub allow_delete_all: bool,
}

/// Why an object must not be changed into another, or deleted; `None`: it may.
pub type RefusalCheck<O> = Box<dyn Fn(&O, Option<&O>) -> Option<String> + Send + Sync>;

/// What a [`OwnedObjectTable`] keeps.
pub type ObjectOf<K> = <<K as OwnedObjectTable>::StoredObject as StoredObject>::Object;

/// Keeps objects of some kinds in a database.
pub trait OwnedObjectTable: Send + Sync + 'static {
    /// What it keeps.
    type StoredObject: StoredObject;
    /// The integration's name, under which real runs are kept apart.
    const RECONCILER_NAME: &'static str;

    /// Keeps out whoever else changes the objects, in real runs.
    fn lock_writers_in_tx<'a>(&'a self, _: &'a mut PgConnection) -> BoxFuture<'a, Result<()>> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// All that are there.
    fn read_in_tx<'a>(
        &'a self,
        connection: &'a mut PgConnection,
    ) -> BoxFuture<'a, ReconcileTxResult<Vec<Self::StoredObject>>>;

    /// Leaves what this run is about, if that is a part.
    fn retain_part(
        &self,
        _stored: &mut Vec<Self::StoredObject>,
        _desired: &mut Vec<ObjectOf<Self>>,
        _options: OwnershipOptions,
    ) {
    }

    /// Finds out what speaks against changes of these objects; nothing does, unless a keeper knows better.
    fn check_refusals<'a>(
        &'a self,
        _stored: &'a [Self::StoredObject],
        _desired: &'a [ObjectOf<Self>],
        _options: OwnershipOptions,
    ) -> BoxFuture<'a, Result<RefusalCheck<ObjectOf<Self>>, ReconcileError>> {
        Box::pin(std::future::ready(Ok(allow_every_change())))
    }

    /// Writes, and tells whoever goes by the objects.
    fn write_in_tx<'a>(
        &'a self,
        connection: &'a mut PgConnection,
        writes: &'a PlannedObjectWrites<ObjectOf<Self>>,
        owner: ObjectOwner,
    ) -> BoxFuture<'a, Result<()>>;
}

/// Nothing speaks against anything.
pub fn allow_every_change<O>() -> RefusalCheck<O> {
    Box::new(|_, _| None)
}

/// Brings what a keeper keeps, or a part of it, to what is wanted.
pub struct OwnedObjectSet<K: OwnedObjectTable> {
    /// Keeps it.
    pub table: K,
    /// All that is wanted.
    pub desired: Vec<ObjectOf<K>>,
    /// The part that the run is about, for the plan's fingerprint; `` for all.
    pub part: String,
    /// Who wants it.
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

/// Brings it there within a transaction of the caller's, who has kept others out and needs nobody's approval.
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

/// What a plan is bound to.
fn target_state<H: StoredObject>(stored: &[H]) -> Json {
    let row =
        |held: &H| json!([held.object().kind(), held.object().to_json(), held.owner().name()]);
    stored.iter().map(row).collect()
}
