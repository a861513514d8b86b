//! Integrations whose target is a set of named objects in a database, each with its owner: one plan and one transaction
//! for all of them. What an object is, and how it is read and written, is its [`Keeper`]'s.

mod emptied;
mod plan;

use futures::future::BoxFuture;
use serde_json::{Value as Json, json};
use store::{PgConnection, Result};

pub use emptied::refusal_to_empty;
pub use plan::{Steps, plan};

use crate::{Attempt, Owner, Plan, RunError, Transaction, note_reconciled_in_tx};
use emptied::Emptied;
use plan::plan_part;

/// Something that a bundle describes and a database keeps.
pub trait Object: Clone + Send + Sync + 'static {
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
pub trait Held: Send + Sync + 'static {
    /// What is held.
    type Object: Object;
    /// The object.
    fn object(&self) -> &Self::Object;
    /// Whose it is.
    fn owner(&self) -> Owner;
}

/// Who wants it.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    /// Who owns what is written.
    pub owner: Owner,
    /// Whether what belongs to others is taken over.
    pub take_over: bool,
    /// Whether everything of a kind may be deleted when nothing of it is wanted.
    pub allow_delete_all: bool,
}

/// Why an object must not be changed into another, or deleted; `None`: it may.
pub type Refusal<O> = Box<dyn Fn(&O, Option<&O>) -> Option<String> + Send + Sync>;

/// What a [`Keeper`] keeps.
pub type ObjectOf<K> = <<K as Keeper>::Held as Held>::Object;

/// Keeps objects of some kinds in a database.
pub trait Keeper: Send + Sync + 'static {
    /// What it keeps.
    type Held: Held;
    /// The integration's name, under which real runs are kept apart.
    const INTEGRATION: &'static str;

    /// Keeps out whoever else changes the objects, in real runs.
    fn hold_in_tx<'a>(&'a self, _: &'a mut PgConnection) -> BoxFuture<'a, Result<()>> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// All that are there.
    fn read_in_tx<'a>(&'a self, connection: &'a mut PgConnection) -> BoxFuture<'a, Attempt<Vec<Self::Held>>>;

    /// Leaves what this run is about, if that is a part.
    fn narrow(&self, _held: &mut Vec<Self::Held>, _wanted: &mut Vec<ObjectOf<Self>>, _terms: Terms) {}

    /// Finds out what speaks against changes of these objects; nothing does, unless a keeper knows better.
    fn refusal<'a>(
        &'a self,
        _held: &'a [Self::Held],
        _wanted: &'a [ObjectOf<Self>],
        _terms: Terms,
    ) -> BoxFuture<'a, Result<Refusal<ObjectOf<Self>>, RunError>> {
        Box::pin(std::future::ready(Ok(no_refusal())))
    }

    /// Writes, and tells whoever goes by the objects.
    fn write_in_tx<'a>(
        &'a self,
        connection: &'a mut PgConnection,
        steps: &'a Steps<ObjectOf<Self>>,
        owner: Owner,
    ) -> BoxFuture<'a, Result<()>>;
}

/// Nothing speaks against anything.
pub fn no_refusal<O>() -> Refusal<O> {
    Box::new(|_, _| None)
}

/// Brings what a keeper keeps, or a part of it, to what is wanted.
pub struct Set<K: Keeper> {
    /// Keeps it.
    pub keeper: K,
    /// All that is wanted.
    pub wanted: Vec<ObjectOf<K>>,
    /// The part that the run is about, for the plan's fingerprint; `` for all.
    pub part: String,
    /// Who wants it.
    pub terms: Terms,
}

impl<K: Keeper> Transaction for Set<K> {
    type Steps = Steps<ObjectOf<K>>;

    fn excludes(&self) -> Vec<String> {
        vec![K::INTEGRATION.to_owned()]
    }

    fn hold_in_tx<'a>(&'a self, connection: &'a mut PgConnection) -> BoxFuture<'a, Result<()>> {
        self.keeper.hold_in_tx(connection)
    }

    fn plan_in_tx<'a>(
        &'a self,
        connection: &'a mut PgConnection,
    ) -> BoxFuture<'a, Attempt<(Plan, Self::Steps)>> {
        Box::pin(async move {
            let mut held = match self.keeper.read_in_tx(connection).await? {
                Ok(held) => held,
                Err(error) => return Ok(Err(error)),
            };
            let mut wanted = self.wanted.clone();
            let emptied = Emptied::of(&held, &wanted, self.terms);
            self.keeper.narrow(&mut held, &mut wanted, self.terms);
            let refusal = match self.keeper.refusal(&held, &wanted, self.terms).await {
                Ok(refusal) => refusal,
                Err(error) => return Ok(Err(error)),
            };
            let mut steps = plan_part(&held, &wanted, &refusal, self.terms, &emptied);
            steps.plan.observed_in(&self.part, &target(&held));
            Ok(Ok((steps.plan.clone(), steps)))
        })
    }

    fn write_in_tx<'a>(
        &'a self,
        connection: &'a mut PgConnection,
        steps: &'a Self::Steps,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            self.keeper.write_in_tx(connection, steps, self.terms.owner).await?;
            note_reconciled_in_tx(connection, K::INTEGRATION, self.terms.owner).await
        })
    }
}

/// Brings it there within a transaction of the caller's, who has kept others out and needs nobody's approval.
pub async fn bring_in_tx<T: Transaction>(transaction: &T, connection: &mut PgConnection) -> Attempt<Plan> {
    let (plan, steps) = match transaction.plan_in_tx(connection).await? {
        Ok(planned) => planned,
        Err(error) => return Ok(Err(error)),
    };
    transaction.write_in_tx(connection, &steps).await?;
    Ok(Ok(plan))
}

/// What a plan is bound to.
fn target<H: Held>(held: &[H]) -> Json {
    let row = |held: &H| json!([held.object().kind(), held.object().to_json(), held.owner().name()]);
    held.iter().map(row).collect()
}
