//! What uses a type: rules in force, things on the shards, orders that are still to be posted. Reads only.

use std::sync::Arc;

use futures::future::BoxFuture;
use ledger::types::{Kind, Question, Usage, used_on};
use reconcile::RunError;
use sqlx::PgPool;

use super::ShardSet;
use crate::postings::{POSTINGS, load_rules};

/// Asks the control database and all shards.
pub struct InUse {
    pool: PgPool,
    shards: Arc<ShardSet>,
}

impl InUse {
    /// Asks this control database and these shards. Who asks may be in a transaction of it: `pool` must be another one than
    /// that transaction's.
    pub fn new(pool: PgPool, shards: Arc<ShardSet>) -> Self {
        Self { pool, shards }
    }

    async fn ask(&self, question: &Question) -> Result<Option<String>, RunError> {
        // A dry run goes by what the rules would be: those of the bundle fit its types.
        let replaced = question.dry_run && question.to_come.contains(&POSTINGS);
        if question.kind == Kind::Account && !replaced {
            let rules = load_rules(&self.pool).await?.map(|set| set.rules).unwrap_or_default();
            let refers = |rule: &&crate::postings::Rule| {
                rule.events.iter().any(|event| event.event_type == question.name)
            };
            if let Some(rule) = rules.iter().find(refers) {
                return Ok(Some(format!("the posting rule {} refers to it", rule.name)));
            }
        }
        for shard in self.shards.all().await.map_err(RunError::Failed)? {
            let used = used_on(&shard.pool, question.kind, &question.name).await;
            let used = used.map_err(|error| RunError::Failed(format!("shard {}: {error}", shard.name)))?;
            if used {
                return Ok(Some(format!("there are {} on shard {}", things(question.kind), shard.name)));
            }
        }
        if question.kind == Kind::Account && self.to_be_posted(&question.name).await? {
            return Ok(Some("orders that are still to be posted refer to it".to_owned()));
        }
        Ok(None)
    }

    /// Whether there are orders, not yet processed, whose version of the rules refers to the type.
    async fn to_be_posted(&self, name: &str) -> store::Result<bool> {
        let name = name.to_owned();
        store::run(&self.pool, "type_to_be_posted", move |connection| {
            let name = name.clone();
            Box::pin(
                async move { Ok(sqlx::query_scalar(TO_BE_POSTED).bind(name).fetch_one(connection).await?) },
            )
        })
        .await
    }
}

impl Usage for InUse {
    fn of<'a>(&'a self, question: &'a Question) -> BoxFuture<'a, Result<Option<String>, RunError>> {
        Box::pin(self.ask(question))
    }
}

fn things(kind: Kind) -> &'static str {
    match kind {
        Kind::Account => "accounts of it",
        Kind::Lock => "locks of it",
        Kind::State => "states of it",
    }
}

/// Reads the orders only if an older version of the rules refers to the type, of which there is nothing on the shards.
const TO_BE_POSTED: &str = "-- type_to_be_posted
WITH versions AS (
    SELECT array_agg(DISTINCT version) AS versions
    FROM posting_rules, jsonb_array_elements(rules) AS rule, jsonb_array_elements(rule -> 'events') AS event
    WHERE event ->> 'type' = $1
)
SELECT versions IS NOT NULL
       AND EXISTS (SELECT FROM orders WHERE state <> 4 AND storage_id <> 0 AND posting_rules = ANY (versions))
FROM versions";
