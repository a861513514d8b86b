//! `platform.set_account_type`: params are an account type as in its file. One transaction; what uses the type is asked
//! before it, too, when there is no transaction to be held up.

use std::sync::Arc;

use configurator::sdk::{Action, Handler, Request, TaskError};
use ledger::types::{
    Definition, Kind, LEDGER_TYPES, Objection, Question, Stored, Usage, delete_in_tx, objections, put_in_tx,
    read_all, tell_in_tx,
};
use reconcile::{Owner, RunError};
use serde_json::{Map, Value as Json, json};
use sqlx::{PgConnection, PgPool};

use super::{Made, failed, foreign, yields};

const WHAT: &str = "account type";

#[derive(Clone)]
pub(super) struct SetAccountType {
    pub(super) pool: PgPool,
    pub(super) usage: Arc<dyn Usage>,
}

/// What a task wants of a type.
struct Wish {
    name: String,
    /// `None`: gone.
    new: Option<Definition>,
}

impl Wish {
    fn of(action: Action, mut params: Map<String, Json>) -> Result<Self, TaskError> {
        params.remove("$schema");
        let name = params.get("name").and_then(Json::as_str).unwrap_or_default().to_owned();
        if action == Action::Delete {
            return Ok(Self { name, new: None });
        }
        let new = Kind::Account.definition(Json::Object(params));
        let new = new.map_err(|error| TaskError::invalid("params", error.to_string()))?;
        if let Some(problem) = new.problems().first() {
            return Err(TaskError::invalid(format!("params.{}", problem.field), problem.reason.clone()));
        }
        Ok(Self { name, new: Some(new) })
    }
}

impl Handler for SetAccountType {
    const TASK_TYPE: &'static str = "set_account_type";
    type Params = Map<String, Json>;
    type State = Made;

    async fn handle(&self, request: Request<Self::Params>) -> Result<Made, TaskError> {
        let wish = Arc::new(Wish::of(request.action, request.params)?);
        let looked = store::run(&self.pool, "look_at_types", |connection| Box::pin(read_all(connection)));
        self.judge(&looked.await.map_err(failed)?, &wish).await?;
        let (handler, inner) = (self.clone(), wish.clone());
        let done = store::run_tx(&self.pool, "set_account_type", move |connection| {
            let (handler, wish) = (handler.clone(), inner.clone());
            Box::pin(async move { handler.in_tx(connection, &wish).await })
        });
        done.await.map_err(failed)??;
        Ok(Made { name: wish.name.clone() })
    }
}

impl SetAccountType {
    /// The outer error ends the transaction and may be repeated; with the inner one, nothing has been written.
    async fn in_tx(
        &self,
        connection: &mut PgConnection,
        wish: &Wish,
    ) -> store::Result<Result<(), TaskError>> {
        reconcile::exclude_others_in_tx(connection, LEDGER_TYPES).await?;
        let stored = read_all(connection).await?;
        match self.judge(&stored, wish).await {
            Ok(true) => {}
            Ok(false) => return Ok(Ok(())),
            Err(error) => return Ok(Err(error)),
        }
        match &wish.new {
            Some(new) => put_in_tx(connection, new, Owner::Configurator).await?,
            None => delete_in_tx(connection, Kind::Account, &wish.name).await?,
        }
        tell_in_tx(connection).await?;
        Ok(Ok(()))
    }

    /// Whether there is anything to be done, if it may be.
    async fn judge(&self, stored: &Result<Vec<Stored>, String>, wish: &Wish) -> Result<bool, TaskError> {
        let stored = stored
            .as_ref()
            .map_err(|reason| TaskError::permanent("CONSISTENCY_ERROR", json!({"reason": reason})))?;
        let is_it = |stored: &&Stored| {
            stored.definition.kind() == Kind::Account && stored.definition.name() == wish.name
        };
        let Some(old) = stored.iter().find(is_it) else { return Ok(wish.new.is_some()) };
        if wish.new.as_ref() == Some(&old.definition) && old.owner == Owner::Configurator {
            return Ok(false);
        }
        if !yields(old.owner) {
            return Err(foreign(WHAT, &wish.name, old.owner));
        }
        self.object(old, wish).await?;
        Ok(true)
    }

    async fn object(&self, old: &Stored, wish: &Wish) -> Result<(), TaskError> {
        let objections = objections(&old.definition, wish.new.as_ref());
        let refused = |reason: String| {
            Err(TaskError::permanent("CONFLICT", json!({"name": wish.name, "reason": reason})))
        };
        let mut while_used = Vec::new();
        for objection in objections {
            match objection {
                Objection::Always(reason) => return refused(reason),
                Objection::WhileUsed(reason) => while_used.push(reason),
            }
        }
        if while_used.is_empty() {
            return Ok(());
        }
        let question =
            Question { kind: Kind::Account, name: wish.name.clone(), dry_run: false, to_come: Vec::new() };
        match self.usage.of(&question).await {
            Ok(None) => Ok(()),
            Ok(Some(used)) => refused(format!("it is in use ({used}): {}", while_used.join("; "))),
            Err(RunError::Store(error)) => Err(failed(error)),
            Err(error) => Err(TaskError::Temporary(error.to_string())),
        }
    }
}
