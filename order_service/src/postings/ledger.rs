//! Posting to the ledger: the events of all orders that are at it together share its commits.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use futures::future::BoxFuture;
use ledger::Ledger;
use ledger::events::{Event, NewEvent, Status};
use serving::error::ApiError;
use sqlx::PgPool;

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

    async fn write(&self, events: Vec<Event>) -> Result<(), StageError> {
        let ids: Vec<String> = events.iter().map(|event| event.event_id.clone()).collect();
        let written = self.ledger.writer.write(events).await;
        for (id, written) in ids.into_iter().zip(written) {
            match written.status {
                Status::Created | Status::Duplicate => {}
                Status::Conflict | Status::NotWritten => {
                    let reason = format!("CONFLICT: the ledger has event `{id}` with other content");
                    return Err(StageError::Transient(reason));
                }
                Status::Unavailable => {
                    let shard = &self.ledger.shards.all()[written.shard].name;
                    return Err(StageError::Transient(format!(
                        "UNAVAILABLE: ledger shard {shard} does not answer"
                    )));
                }
            }
        }
        Ok(())
    }
}

impl Postings for LedgerPostings {
    fn post<'a>(&'a self, order: &'a Work, stored: Stored) -> BoxFuture<'a, Result<(), StageError>> {
        Box::pin(async move {
            if stored.basis.rules == 0 {
                return Ok(());
            }
            let rules = self.rules(stored.basis.rules).await?;
            let events = self.check(events(&rules, order, stored)).await?;
            store::fail_point("posting");
            self.write(events).await?;
            store::fail_point("posted");
            Ok(())
        })
    }
}
