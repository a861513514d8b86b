//! Reconcilers whose target is a set of named, owned objects in a database.
//!
//! - Shape: a type that implements [`OwnedObject`] is one kind of reconciler;
//!   [`OwnedObjectSet`] runs it.
//! - Cost: one plan and one transaction for all objects.
//! - Lock order: the reconciler's advisory lock, then the writer lock, then rows.

mod emptied_kinds;
mod plan;
mod set;
mod transaction;

use std::collections::BTreeMap;

use futures::future::BoxFuture;
use serde::de::DeserializeOwned;
use serde_json::{Value as Json, json};
use store::{PgConnection, Result};

pub use emptied_kinds::delete_all_refusal;
pub use plan::{PlannedObjectWrites, plan_objects};
pub use set::OwnedObjectSet;
pub use transaction::{OwnedObjectTransaction, reconcile_in_tx};

use crate::error::ReconcileError;
use crate::owner::{ObjectOwner, OwnershipOptions};
use crate::reconciler::{DesiredShardConfig, ReconcileContext};
use crate::transaction::ReconcileTxResult;

/// An object that a bundle describes and a database stores.
pub trait OwnedObject: Clone + Send + Sync + 'static {
    /// Reconciler name; real runs with the same name exclude each other.
    const RECONCILER_NAME: &'static str;
    /// Label of the transaction that reconciles the objects.
    const TRANSACTION_NAME: &'static str;
    /// Label of reads outside the transaction, unique in the platform.
    const READ_NAME: &'static str;
    /// Division of the desired state into shards, by [`OwnedObject::shard`].
    const SHARD_CONFIG: Option<DesiredShardConfig> = None;
    /// Whether [`OwnedObject::check_refusals`] also runs before the transaction, so that
    /// unavailable usage fails the run while no transaction is open.
    const CHECKS_USAGE_FIRST: bool = false;

    /// Key for deletion in the target.
    type Id: Clone + Send + Sync + 'static;
    /// Arguments of a run, as in [`Reconciler::Arguments`](crate::Reconciler::Arguments).
    type Arguments: DeserializeOwned + Send + 'static;
    /// Usage lookup of [`OwnedObject::check_refusals`]; `()` for kinds without one.
    type Usage: Clone + Send + Sync + 'static;

    /// The key by which the target deletes it.
    fn id(&self) -> Self::Id;

    /// Kind as shown in plans, such as `schedule`.
    fn kind(&self) -> &'static str;

    /// Name, unique within its kind.
    fn name(&self) -> &str;

    /// The fields that plans compare and show.
    fn to_json(&self) -> Json;

    /// The shard that the object belongs to; `None` in kinds without shards.
    fn shard(&self) -> Option<&str>;

    /// The shard that the arguments select; `None` for a run over all objects.
    fn requested_shard(arguments: Self::Arguments) -> Option<String>;

    /// All desired objects, from the documents that the reconciler may read.
    fn find_desired(context: &ReconcileContext<'_>) -> Result<Vec<Self>, ReconcileError>;

    /// The desired state that early exit compares; by default the objects by name.
    fn desired_state_json(desired: &[Self]) -> Json {
        let by_name: BTreeMap<&str, Json> =
            desired.iter().map(|object| (object.name(), object.to_json())).collect();
        json!(by_name)
    }

    /// Locks out other writers of the objects. Called in real runs only.
    fn lock_writers_in_tx(_: &mut PgConnection) -> BoxFuture<'_, Result<()>> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// Reads all stored objects.
    fn read_in_tx(
        connection: &mut PgConnection,
    ) -> BoxFuture<'_, ReconcileTxResult<Vec<StoredObject<Self>>>>;

    /// Checks for reasons against changing these objects; by default there are none.
    fn check_refusals<'a>(
        _usage: Option<&'a ObjectUsageCheck<Self::Usage>>,
        _stored: &'a [StoredObject<Self>],
        _desired: &'a [Self],
        _options: OwnershipOptions,
    ) -> BoxFuture<'a, Result<RefusalCheck<Self>, ReconcileError>> {
        Box::pin(std::future::ready(Ok(allow_every_change())))
    }

    /// Writes the changes and notifies the readers of the objects.
    fn write_in_tx<'a>(
        connection: &'a mut PgConnection,
        writes: &'a PlannedObjectWrites<Self>,
        owner: ObjectOwner,
    ) -> BoxFuture<'a, Result<()>>;
}

/// An object of the stored state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredObject<T> {
    /// The object without its owner.
    pub object: T,
    /// Owner recorded with the object.
    pub owner: ObjectOwner,
}

/// Usage lookup with the parameters of one run.
#[derive(Debug, Clone)]
pub struct ObjectUsageCheck<U> {
    /// Finds out what uses an object.
    pub usage: U,
    /// Whether the run is a dry run.
    pub dry_run: bool,
    /// Selected reconcilers that run after this one.
    pub remaining_reconcilers: Vec<&'static str>,
}

/// Returns why an object must not be changed into another (`Some`) or deleted (`None`);
/// result `None` allows it.
pub type RefusalCheck<T> = Box<dyn Fn(&T, Option<&T>) -> Option<String> + Send + Sync>;

/// A refusal check that allows every change.
pub fn allow_every_change<T>() -> RefusalCheck<T> {
    Box::new(|_, _| None)
}
