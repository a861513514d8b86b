//! Posting to the ledger: the events of all orders that are at it together share its commits.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use futures::future::BoxFuture;
use ledger::Ledger;
use ledger::events::{Event, NewEvent, Status, posted_at};
use serving::error::ApiError;
use sqlx::PgPool;
use store::Turn;

use super::{Postings, Rule, events, load_version};
use crate::orders::{Stored, Work};
use crate::pipeline::StageError;

/// Posts to a ledger.
pub struct LedgerPostings {
    /// The control database, where the rules are.
    pool: PgPool,
    ledger: Arc<Ledger>,
    /// Versions never change, and are few.
    versions: Mutex<HashMap<i32, Arc<Vec<Rule>>>>,
}

impl LedgerPostings {
    /// Posts to `ledger` by the rules in the control database.
    pub fn new(pool: PgPool, ledger: Arc<Ledger>) -> Self {
        Self { pool, ledger, versions: Mutex::default() }
    }

    async fn rules(&self, version: i32) -> Result<Arc<Vec<Rule>>, StageError> {
        let known = self.versions.lock().unwrap_or_else(PoisonError::into_inner).get(&version).cloned();
        if let Some(rules) = known {
            return Ok(rules);
        }
        let rules = match load_version(&self.pool, version).await {
            Ok(rules) => Arc::new(rules),
            Err(error) if error.is_transient() => {
                return Err(StageError::Transient(format!("UNAVAILABLE: posting rules {version}: {error}")));
            }
            // Somebody has to look into it; the order waits until it is put right.
            Err(error) => {
                return Err(StageError::Transient(format!(
                    "CONSISTENCY_ERROR: posting rules {version}: {error}"
                )));
            }
        };
        self.versions.lock().unwrap_or_else(PoisonError::into_inner).insert(version, rules.clone());
        Ok(rules)
    }

    async fn check(&self, new: Vec<NewEvent>) -> Result<Vec<Event>, StageError> {
        let check = |new: &[NewEvent]| -> Result<Vec<Event>, ApiError> {
            let types = self.ledger.types.now();
            new.iter().map(|event| event.check(&types)).collect()
        };
        if let Ok(events) = check(&new) {
            return Ok(events);
        }
        // A type may have come with the rule a moment ago: what the database says now decides.
        match ledger::types::load(&self.pool).await {
            Ok(catalogue) => self.ledger.types.set(catalogue),
            Err(error) => {
                return Err(StageError::Transient(format!("UNAVAILABLE: types of the ledger: {error}")));
            }
        }
        check(&new).map_err(|error| StageError::Permanent(format!("the ledger refuses its posting: {error}")))
    }

    /// What is there at another time is there: see [`LedgerPostings::is_posted`]. The others of its part were not written
    /// because of it, and are written by themselves.
    async fn write(&self, events: Vec<Event>, turn: Turn) -> Result<(), StageError> {
        let mut left = events;
        while !left.is_empty() {
            let written = self.ledger.writer.write_in_turn(turn, left.clone()).await;
            let mut again = Vec::new();
            let mut recognised = false;
            for (event, written) in left.into_iter().zip(written) {
                match written.status {
                    Status::Created | Status::Duplicate => {}
                    Status::NotWritten => again.push(event),
                    Status::Conflict if self.is_posted(&event).await? => recognised = true,
                    Status::Contradiction => {
                        let id = &event.event_id;
                        let reason = format!(
                            "CONFLICT: event `{id}` is twice among an order's, with different content"
                        );
                        return Err(StageError::Transient(reason));
                    }
                    Status::Conflict => {
                        let id = &event.event_id;
                        let reason = format!("CONFLICT: the ledger has event `{id}` with other content");
                        return Err(StageError::Transient(reason));
                    }
                    Status::Unavailable => {
                        return Err(unavailable(&self.ledger.shards.all()[written.shard].name));
                    }
                }
            }
            if !again.is_empty() && !recognised {
                return Err(StageError::Transient(
                    "CONFLICT: a part of an order's events was not written".to_owned(),
                ));
            }
            left = again;
        }
        Ok(())
    }

    /// Whether this posting, which is the service's own work, is in the ledger under another time. The control database was
    /// then put back to an older copy, and the order's data stored again.
    async fn is_posted(&self, event: &Event) -> Result<bool, StageError> {
        match posted_at(&self.ledger.shards, event).await {
            Ok(Some(at)) => {
                metrics::counter!("order_postings_recognised_total").increment(1);
                tracing::info!(event_id = event.event_id, posted_at = %at, now_at = %event.dt,
                    "an order's event is in the ledger at another time: the same posting");
                Ok(true)
            }
            Ok(None) => Ok(false),
            Err(error) => {
                tracing::warn!(event_id = event.event_id, %error, code = "UNAVAILABLE", "a posting could not be looked up");
                Err(StageError::Transient("UNAVAILABLE: a posting could not be looked up".to_owned()))
            }
        }
    }
}

fn unavailable(shard: &str) -> StageError {
    StageError::Transient(format!("UNAVAILABLE: ledger shard {shard} does not answer"))
}

impl Postings for LedgerPostings {
    fn post<'a>(&'a self, order: &'a Work, stored: Stored) -> BoxFuture<'a, Result<(), StageError>> {
        Box::pin(async move {
            if stored.basis.rules == 0 {
                return Ok(());
            }
            let rules = self.rules(stored.basis.rules).await?;
            let events = self.check(events(&rules, (order.order_id, order.product_id), stored)).await?;
            store::fail_point("posting");
            self.write(events, order.turn).await?;
            store::fail_point("posted");
            Ok(())
        })
    }
}
