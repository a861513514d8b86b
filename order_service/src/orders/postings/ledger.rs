//! Poster: writes the events of orders to the ledger.
//!
//! - Cost: concurrent orders share the ledger's group commits; rule versions are cached.
//! - Promise: idempotent by event id; a repeated posting is a duplicate.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use ledger::Ledger;
use ledger::events::{LedgerEvent, LedgerEventStatus, NewLedgerEvent, find_event_time};
use serving::error::ApiError;
use sqlx::PgPool;
use store::FairTurn;

use super::{PostingRule, build_posting_events, load_rules_version};
use crate::orders::NewOrder;
use crate::orders::db::{OrderAttempt, StoredOrderData};
use crate::orders::pipeline::StageError;

/// Posts orders to a ledger.
pub struct LedgerOrderPoster {
    /// Connection pool of the control database, for the rules.
    pool: PgPool,
    ledger: Arc<Ledger>,
    /// Cache without invalidation: versions are immutable and few.
    rules_by_version: Mutex<HashMap<i32, Arc<Vec<PostingRule>>>>,
}

impl LedgerOrderPoster {
    /// Posts to `ledger` by the rules of the control database `pool`.
    pub fn new(pool: PgPool, ledger: Arc<Ledger>) -> Self {
        Self { pool, ledger, rules_by_version: Mutex::default() }
    }

    /// Posts the events of `order`, whose data is committed. Idempotent.
    pub(super) async fn post_order(
        &self,
        order: &OrderAttempt,
        stored: StoredOrderData,
    ) -> Result<(), StageError> {
        let version = stored.posting_context.rules_version;
        if version == 0 {
            return Ok(());
        }
        let rules = self.get_rules(version).await?;
        let posted = NewOrder { order_id: order.order_id, product_id: order.product_id };
        let events = self.check_events(build_posting_events(&rules, posted, stored)).await?;
        store::fail_point("posting");
        self.write_events(events, order.turn).await?;
        store::fail_point("posted");
        Ok(())
    }

    async fn get_rules(&self, version: i32) -> Result<Arc<Vec<PostingRule>>, StageError> {
        let cached_rules = self
            .rules_by_version
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&version)
            .cloned();
        if let Some(rules) = cached_rules {
            return Ok(rules);
        }
        let rules = match load_rules_version(&self.pool, version).await {
            Ok(rules) => Arc::new(rules),
            Err(error) if error.is_transient() => {
                return Err(StageError::Transient(format!(
                    "UNAVAILABLE: posting rules {version}: {error}"
                )));
            }
            // An operator has to repair it; the order is retried until then.
            Err(error) => {
                return Err(StageError::Transient(format!(
                    "CONSISTENCY_ERROR: posting rules {version}: {error}"
                )));
            }
        };
        self.rules_by_version
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(version, rules.clone());
        Ok(rules)
    }

    async fn check_events(
        &self,
        new_events: Vec<NewLedgerEvent>,
    ) -> Result<Vec<LedgerEvent>, StageError> {
        if let Ok(events) = self.check_with_current_types(&new_events) {
            return Ok(events);
        }
        // The cached types may be stale, as a type may be new with the rule: reload them.
        match ledger::types::load_types(&self.pool).await {
            Ok(catalogue) => self.ledger.types.set(catalogue),
            Err(error) => {
                return Err(StageError::Transient(format!(
                    "UNAVAILABLE: types of the ledger: {error}"
                )));
            }
        }
        self.check_with_current_types(&new_events).map_err(|error| {
            StageError::Permanent(format!("the ledger refuses its posting: {error}"))
        })
    }

    fn check_with_current_types(
        &self,
        new_events: &[NewLedgerEvent],
    ) -> Result<Vec<LedgerEvent>, ApiError> {
        let types = self.ledger.types.current();
        new_events.iter().map(|event| event.to_checked_event(&types)).collect()
    }

    /// Writes the events until all are stored. An event stored at another time counts as posted,
    /// see [`LedgerOrderPoster::is_posted`]; it keeps the rest of its part from being written,
    /// which is then written without it.
    async fn write_events(
        &self,
        events: Vec<LedgerEvent>,
        turn: FairTurn,
    ) -> Result<(), StageError> {
        let mut pending_events = events;
        while !pending_events.is_empty() {
            let written = self.ledger.writer.write_in_turn(turn, pending_events.clone()).await;
            let mut unwritten_events = Vec::new();
            let mut has_posted_event = false;
            for (event, written) in pending_events.into_iter().zip(written) {
                match written.status {
                    LedgerEventStatus::Created | LedgerEventStatus::Duplicate => {}
                    LedgerEventStatus::NotWritten => unwritten_events.push(event),
                    LedgerEventStatus::Conflict if self.is_posted(&event).await? => {
                        has_posted_event = true
                    }
                    LedgerEventStatus::Contradiction => {
                        let id = &event.event_id;
                        let reason = format!(
                            "CONFLICT: event `{id}` is twice among an order's, with different content"
                        );
                        return Err(StageError::Transient(reason));
                    }
                    LedgerEventStatus::Conflict => {
                        let id = &event.event_id;
                        let reason =
                            format!("CONFLICT: the ledger has event `{id}` with other content");
                        return Err(StageError::Transient(reason));
                    }
                    LedgerEventStatus::Unavailable => {
                        return Err(shard_unavailable_error(
                            &self.ledger.shards.all()[written.shard_index].name,
                        ));
                    }
                }
            }
            if !unwritten_events.is_empty() && !has_posted_event {
                return Err(StageError::Transient(
                    "CONFLICT: a part of an order's events was not written".to_owned(),
                ));
            }
            pending_events = unwritten_events;
        }
        Ok(())
    }

    /// Whether the event is in the ledger at another time. That happens after the control database
    /// was restored from an older backup and the order's data was stored again.
    async fn is_posted(&self, event: &LedgerEvent) -> Result<bool, StageError> {
        match find_event_time(&self.ledger.shards, event).await {
            Ok(Some(at)) => {
                metrics::counter!("order_postings_recognised_total").increment(1);
                tracing::info!(event_id = event.event_id, posted_at = %at, now_at = %event.dt,
                    "an order's event is in the ledger at another time: the same posting");
                Ok(true)
            }
            Ok(None) => Ok(false),
            Err(error) => {
                tracing::warn!(event_id = event.event_id, %error, code = "UNAVAILABLE", "a posting could not be looked up");
                Err(StageError::Transient(
                    "UNAVAILABLE: a posting could not be looked up".to_owned(),
                ))
            }
        }
    }
}

fn shard_unavailable_error(shard: &str) -> StageError {
    StageError::Transient(format!("UNAVAILABLE: ledger shard {shard} does not answer"))
}
