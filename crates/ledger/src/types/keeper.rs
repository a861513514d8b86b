//! The types as they are kept in the control database, with what may become of them.

use std::sync::Arc;

use futures::future::BoxFuture;
use reconcile::owned::{Held, Keeper, Object, Refusal, Steps};
use reconcile::{Attempt, Owner, RunError};
use serde_json::Value as Json;
use sqlx::PgConnection;
use store::Result;

use super::integration::{LEDGER_TYPES, Question, Usage};
use super::plan::{Uses, questions, refusal};
use super::{Definition, Kind, Stored, Terms, delete_in_tx, put_in_tx, read_all, tell_in_tx};

/// The types in the control database: all of them, or those of a name.
pub struct Kept {
    /// Only types of this name.
    pub(super) only: Option<String>,
    /// Knows what is in use; without it, nothing is.
    pub(super) in_use: Option<InUse>,
}

/// Knows what is in use, in one run.
pub(super) struct InUse {
    pub(super) usage: Arc<dyn Usage>,
    pub(super) dry_run: bool,
    pub(super) to_come: Vec<&'static str>,
}

impl Object for Definition {
    type Id = (Kind, String);

    fn id(&self) -> (Kind, String) {
        (Definition::kind(self), Definition::name(self).to_owned())
    }

    fn kind(&self) -> &'static str {
        Definition::kind(self).object()
    }

    fn name(&self) -> &str {
        Definition::name(self)
    }

    fn to_json(&self) -> Json {
        Definition::to_json(self)
    }
}

impl Held for Stored {
    type Object = Definition;

    fn object(&self) -> &Definition {
        &self.definition
    }

    fn owner(&self) -> Owner {
        self.owner
    }
}

impl Kept {
    fn is_one(&self, definition: &Definition) -> bool {
        self.only.as_deref().is_none_or(|only| Definition::name(definition) == only)
    }
}

impl Keeper for Kept {
    type Held = Stored;
    const INTEGRATION: &'static str = LEDGER_TYPES;

    fn read_in_tx<'a>(&'a self, connection: &'a mut PgConnection) -> BoxFuture<'a, Attempt<Vec<Stored>>> {
        Box::pin(async move { Ok(read_all(connection).await?.map_err(RunError::Failed)) })
    }

    fn narrow(&self, stored: &mut Vec<Stored>, wanted: &mut Vec<Definition>, _: Terms) {
        stored.retain(|stored| self.is_one(&stored.definition));
        wanted.retain(|definition| self.is_one(definition));
    }

    fn refusal<'a>(
        &'a self,
        stored: &'a [Stored],
        wanted: &'a [Definition],
        terms: Terms,
    ) -> BoxFuture<'a, std::result::Result<Refusal<Definition>, RunError>> {
        Box::pin(async move {
            let Some(in_use) = &self.in_use else { return Ok(refusal(Uses::new())) };
            let mut uses = Uses::new();
            for (kind, name) in questions(stored, wanted, terms) {
                let (dry_run, to_come) = (in_use.dry_run, in_use.to_come.clone());
                let question = Question { kind, name, dry_run, to_come };
                if let Some(used) = in_use.usage.of(&question).await? {
                    uses.insert((question.kind, question.name), used);
                }
            }
            Ok(refusal(uses))
        })
    }

    fn write_in_tx<'a>(
        &'a self,
        connection: &'a mut PgConnection,
        steps: &'a Steps<Definition>,
        owner: Owner,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            for definition in &steps.put {
                put_in_tx(connection, definition, owner).await?;
            }
            for (kind, name) in &steps.delete {
                delete_in_tx(connection, *kind, name).await?;
            }
            if !steps.plan.changes.is_empty() {
                tell_in_tx(connection).await?;
            }
            Ok(())
        })
    }
}
