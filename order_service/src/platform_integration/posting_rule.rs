//! `platform.set_posting_rule`: params are a posting rule as in its document. The stored rules are
//! one versioned set: a changed rule makes a new version of all, owned by the configurator.

use audit::AuditActor;
use configurator::sdk::{BlockAction, BlockRequest, IntegrationError, IntegrationHandler};
use ledger::types::LEDGER_TYPES_RECONCILER;
use reconcile::ObjectOwner;
use serde_json::{Map, Value as Json, json};
use sqlx::{PgConnection, PgPool};

use super::{
    PlatformObject, block_actor, can_take_over, foreign_owner_error, record_object_in_tx,
    store_task_error,
};
use crate::orders::postings::{
    POSTINGS_RECONCILER, PostingRule, find_rule_problems, put_posting_rules_in_tx,
    read_known_types, read_posting_rules,
};

pub(super) struct SetPostingRule {
    pub(super) pool: PgPool,
}

/// Desired change of one rule.
struct PostingRuleChange {
    name: String,
    /// `None` deletes the rule.
    rule: Option<PostingRule>,
    actor: AuditActor,
}

impl IntegrationHandler for SetPostingRule {
    const TASK_TYPE: &'static str = "set_posting_rule";
    type Params = Map<String, Json>;
    type State = PlatformObject;

    async fn handle(
        &self,
        request: BlockRequest<Self::Params>,
    ) -> Result<PlatformObject, IntegrationError> {
        let mut params = request.params;
        params.remove("$schema");
        let name = params.get("name").and_then(Json::as_str).unwrap_or_default().to_owned();
        if name.is_empty() || name.len() > 100 {
            return Err(IntegrationError::invalid("params.name", "must have 1 to 100 bytes"));
        }
        let new = match request.action {
            BlockAction::Delete => None,
            BlockAction::Create | BlockAction::Update => {
                let rule = serde_json::from_value(Json::Object(params));
                Some(rule.map_err(|error| IntegrationError::invalid("params", error.to_string()))?)
            }
        };
        let change = PostingRuleChange {
            name: name.clone(),
            rule: new,
            actor: block_actor(request.block_id),
        };
        let result = store::transaction("set_posting_rule", change)
            .run(&self.pool, |connection, change| Box::pin(apply_change_in_tx(connection, change)))
            .await;
        result.map_err(store_task_error)??;
        Ok(PlatformObject { name })
    }
}

/// The outer error is retryable and rolls back; with the inner one nothing was written.
async fn apply_change_in_tx(
    connection: &mut PgConnection,
    change: &PostingRuleChange,
) -> store::Result<Result<(), IntegrationError>> {
    // Lock order as in every reconcile. Types must not change between this check and the commit.
    reconcile::exclude_other_runs_in_tx(connection, LEDGER_TYPES_RECONCILER).await?;
    reconcile::exclude_other_runs_in_tx(connection, POSTINGS_RECONCILER).await?;
    let current_set = read_posting_rules(connection).await?;
    let mut rules = current_set.as_ref().map(|set| set.rules.clone()).unwrap_or_default();
    let old_index = rules.iter().position(|rule| rule.name == change.name);
    match (&change.rule, old_index) {
        (None, None) => return Ok(Ok(())),
        (Some(new), Some(old)) if rules[old] == *new => return Ok(Ok(())),
        _ => {}
    }
    if let Some(set) = current_set.filter(|set| !can_take_over(set.owner)) {
        return Ok(Err(foreign_owner_error("set of posting rules with", &change.name, set.owner)));
    }
    if let Some(new) = &change.rule {
        let types = read_known_types(connection, &[]).await?;
        if let Some(problem) = find_rule_problems(new, &types).first() {
            let field = format!("params.{}", problem.field);
            return Ok(Err(IntegrationError::invalid(field, problem.reason.clone())));
        }
    }
    let old = old_index.map(|old| json!(rules[old]));
    match (change.rule.clone(), old_index) {
        (Some(new), Some(old)) => rules[old] = new,
        (Some(new), None) => rules.push(new),
        (None, Some(old)) => drop(rules.remove(old)),
        (None, None) => {}
    }
    rules.sort_by(|a, b| a.name.cmp(&b.name));
    put_posting_rules_in_tx(connection, &rules, ObjectOwner::Configurator).await?;
    let sides = (old, change.rule.as_ref().map(|rule| json!(rule)));
    let object = ("posting_rule", change.name.as_str());
    record_object_in_tx(connection, &change.actor, object, sides).await?;
    Ok(Ok(()))
}
