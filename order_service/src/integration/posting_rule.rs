//! `platform.set_posting_rule`: params are a posting rule as in its file. The rules in force are one set: a rule that
//! changes makes a new version of all of them, which then belongs to the configurator.

use std::sync::Arc;

use configurator::sdk::{Action, Handler, Request, TaskError};
use ledger::types::LEDGER_TYPES;
use reconcile::Owner;
use serde_json::{Map, Value as Json};
use sqlx::{PgConnection, PgPool};

use super::{Made, failed, foreign, yields};
use crate::postings::{POSTINGS, Rule, problems, put_rules_in_tx, read_rules, types_in_force};

pub(super) struct SetPostingRule {
    pub(super) pool: PgPool,
}

/// What a task wants of a rule.
struct Wish {
    name: String,
    /// `None`: gone.
    new: Option<Rule>,
}

impl Handler for SetPostingRule {
    const TASK_TYPE: &'static str = "set_posting_rule";
    type Params = Map<String, Json>;
    type State = Made;

    async fn handle(&self, request: Request<Self::Params>) -> Result<Made, TaskError> {
        let mut params = request.params;
        params.remove("$schema");
        let name = params.get("name").and_then(Json::as_str).unwrap_or_default().to_owned();
        if name.is_empty() || name.len() > 100 {
            return Err(TaskError::invalid("params.name", "must have 1 to 100 bytes"));
        }
        let new = match request.action {
            Action::Delete => None,
            Action::Create | Action::Update => {
                let rule = serde_json::from_value(Json::Object(params));
                Some(rule.map_err(|error| TaskError::invalid("params", error.to_string()))?)
            }
        };
        let wish = Arc::new(Wish { name: name.clone(), new });
        let done = store::run_tx(&self.pool, "set_posting_rule", move |connection| {
            let wish = wish.clone();
            Box::pin(async move { in_tx(connection, &wish).await })
        });
        done.await.map_err(failed)??;
        Ok(Made { name })
    }
}

/// The outer error ends the transaction and may be repeated; with the inner one, nothing has been written.
async fn in_tx(connection: &mut PgConnection, wish: &Wish) -> store::Result<Result<(), TaskError>> {
    // In this order, as everybody does: types must not change between the look at them and the commit.
    reconcile::exclude_others_in_tx(connection, LEDGER_TYPES).await?;
    reconcile::exclude_others_in_tx(connection, POSTINGS).await?;
    let current = read_rules(connection).await?;
    let mut rules = current.as_ref().map(|set| set.rules.clone()).unwrap_or_default();
    let old = rules.iter().position(|rule| rule.name == wish.name);
    match (&wish.new, old) {
        (None, None) => return Ok(Ok(())),
        (Some(new), Some(old)) if rules[old] == *new => return Ok(Ok(())),
        _ => {}
    }
    if let Some(set) = current.filter(|set| !yields(set.owner)) {
        return Ok(Err(foreign("set of posting rules with", &wish.name, set.owner)));
    }
    if let Some(new) = &wish.new {
        let types = types_in_force(connection, &[]).await?;
        if let Some(problem) = problems(new, &types).first() {
            let field = format!("params.{}", problem.field);
            return Ok(Err(TaskError::invalid(field, problem.reason.clone())));
        }
    }
    match (wish.new.clone(), old) {
        (Some(new), Some(old)) => rules[old] = new,
        (Some(new), None) => rules.push(new),
        (None, Some(old)) => drop(rules.remove(old)),
        (None, None) => {}
    }
    rules.sort_by(|a, b| a.name.cmp(&b.name));
    put_rules_in_tx(connection, &rules, Owner::Configurator).await?;
    Ok(Ok(()))
}
