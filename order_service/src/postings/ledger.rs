//! Posting to the ledger: the events of all orders that are at it together share its commits.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use futures::future::BoxFuture;
use ledger::Ledger;
use ledger::events::{LedgerEvent, LedgerEventStatus, NewLedgerEvent, find_event_time};
use serving::error::ApiError;
use sqlx::PgPool;
use store::FairTurn;

use super::{OrderPoster, PostingRule, build_posting_events, load_rules_version};
use crate::orders::{OrderAttempt, StoredOrderData};
use crate::pipeline::StageError;

/// Posts to a ledger.
pub struct LedgerOrderPoster {
    /// The control database, where the rules are.
    pool: PgPool,
    ledger: Arc<Ledger>,
    /// Versions never change, and are few.
    rules_by_version: Mutex<HashMap<i32, Arc<Vec<PostingRule>>>>,
}

impl LedgerOrderPoster {
    /// Posts to `ledger` by the rules in the control database.
    pub fn new(pool: PgPool, ledger: Arc<Ledger>) -> Self {
        Self { pool, ledger, rules_by_version: Mutex::default() }
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
            // Somebody has to look into it; the order waits until it is put right.
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
        let check = |new: &[NewLedgerEvent]| -> Result<Vec<LedgerEvent>, ApiError> {
            let types = self.ledger.types.current();
            new.iter().map(|event| event.to_checked_event(&types)).collect()
        };
        if let Ok(events) = check(&new_events) {
            return Ok(events);
        }
        // A type may have come with the rule a moment ago: what the database says now decides.
        match ledger::types::load_types(&self.pool).await {
            Ok(catalogue) => self.ledger.types.set(catalogue),
            Err(error) => {
                return Err(StageError::Transient(format!(
                    "UNAVAILABLE: types of the ledger: {error}"
                )));
            }
        }
        check(&new_events).map_err(|error| {
            StageError::Permanent(format!("the ledger refuses its posting: {error}"))
        })
    }

    /// What is there at another time is there: see [`LedgerOrderPoster::is_posted`]. The others of its part were not written
    /// because of it, and are written by themselves.
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

    /// Whether this posting, which is the service's own work, is in the ledger under another time. The control database was
    /// then put back to an older copy, and the order's data stored again.
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

impl OrderPoster for LedgerOrderPoster {
    fn post_order<'a>(
        &'a self,
        order: &'a OrderAttempt,
        stored: StoredOrderData,
    ) -> BoxFuture<'a, Result<(), StageError>> {
        Box::pin(async move {
            if stored.posting_context.rules_version == 0 {
                return Ok(());
            }
            let rules = self.get_rules(stored.posting_context.rules_version).await?;
            let events = self
                .check_events(build_posting_events(
                    &rules,
                    (order.order_id, order.product_id),
                    stored,
                ))
                .await?;
            store::fail_point("posting");
            self.write_events(events, order.turn).await?;
            store::fail_point("posted");
            Ok(())
        })
    }
}
