//! Usage of a ledger type: posting rules in force, rows on the shards, unposted orders. Read-only.

use std::sync::Arc;

use futures::future::BoxFuture;
use ledger::types::{LedgerTypeKind, LedgerTypeUsage, LedgerTypeUsageQuery, is_type_used};
use reconcile::ReconcileError;
use sqlx::PgPool;

use super::ShardSet;
use crate::orders::postings::{POSTINGS_RECONCILER, load_posting_rules};

/// Looks for usage in the control database and on all shards.
pub struct TypeUsageFinder {
    pool: PgPool,
    shards: Arc<ShardSet>,
}

impl TypeUsageFinder {
    /// The caller may hold a transaction on the control database. To avoid a pool deadlock `pool`
    /// must be another pool than the transaction's.
    pub fn new(pool: PgPool, shards: Arc<ShardSet>) -> Self {
        Self { pool, shards }
    }

    async fn find_usage(
        &self,
        question: &LedgerTypeUsageQuery,
    ) -> Result<Option<String>, ReconcileError> {
        // In a dry run the bundle's rules, which fit its types, would replace the stored ones.
        let rules_replaced =
            question.dry_run && question.remaining_integrations.contains(&POSTINGS_RECONCILER);
        if question.kind == LedgerTypeKind::Account && !rules_replaced {
            let rules =
                load_posting_rules(&self.pool).await?.map(|set| set.rules).unwrap_or_default();
            for rule in &rules {
                if rule.events.iter().any(|event| event.event_type == question.name) {
                    return Ok(Some(format!("the posting rule {} refers to it", rule.name)));
                }
            }
        }
        for shard in self.shards.open_all_shards().await.map_err(ReconcileError::Failed)? {
            let used = is_type_used(&shard.pool, question.kind, &question.name).await;
            let used = used.map_err(|error| {
                ReconcileError::Failed(format!("shard {}: {error}", shard.name))
            })?;
            if used {
                return Ok(Some(format!(
                    "there are {} on shard {}",
                    used_things_text(question.kind),
                    shard.name
                )));
            }
        }
        if question.kind == LedgerTypeKind::Account
            && self.has_unposted_orders(&question.name).await?
        {
            return Ok(Some("orders that are still to be posted refer to it".to_owned()));
        }
        Ok(None)
    }

    /// Whether an unfinished order has a rules version that refers to the type.
    async fn has_unposted_orders(&self, name: &str) -> store::Result<bool> {
        store::statement("type_to_be_posted", UNPOSTED_ORDERS_SQL)
            .bind(name)
            .fetch_value(&self.pool)
            .await
    }
}

impl LedgerTypeUsage for TypeUsageFinder {
    fn find_usage<'a>(
        &'a self,
        question: &'a LedgerTypeUsageQuery,
    ) -> BoxFuture<'a, Result<Option<String>, ReconcileError>> {
        Box::pin(self.find_usage(question))
    }
}

fn used_things_text(kind: LedgerTypeKind) -> &'static str {
    match kind {
        LedgerTypeKind::Account => "accounts of it",
        LedgerTypeKind::Lock => "locks of it",
        LedgerTypeKind::State => "states of it",
    }
}

/// Scans `orders` only if some version of the rules refers to the type. Callers have already found
/// no rows of the type on the shards.
const UNPOSTED_ORDERS_SQL: &str = "WITH versions AS (
    SELECT array_agg(DISTINCT version) AS versions
    FROM posting_rules, jsonb_array_elements(rules) AS rule, jsonb_array_elements(rule -> 'events') AS event
    WHERE event ->> 'type' = $1
)
SELECT versions IS NOT NULL
       AND EXISTS (SELECT FROM orders WHERE state <> 4 AND storage_id <> 0 AND posting_rules = ANY (versions))
FROM versions";
