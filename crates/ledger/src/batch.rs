//! Several writes on one shard, in one transaction: events and states, guarded by a lock. All or nothing.
//!
//! Lock order within the transaction: the lock's row, states by key, then what `write_events` takes.

use std::sync::Arc;

use serving::error::{ApiError, Code};
use sqlx::{Connection as _, PgConnection, PgPool};
use store::Result;
use uuid::Uuid;

use crate::Ledger;
use crate::events::{
    Contradiction, Event, Known, MONTHS_MADE_AGAIN, Part, Rows, Status, lacks_month, make_months, once_each,
    statuses,
};
use crate::locks::{Hold, alive_in_tx};
use crate::states::{Outcome, Put, made_versions, put_in_tx};

/// What is written together.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// Only while this lock is alive.
    pub lock: Option<Uuid>,
    /// Events.
    pub events: Vec<Event>,
    /// States.
    pub states: Vec<Put>,
}

/// What became of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Done {
    /// Everything is there: the events' statuses (created or duplicate) and the states' versions.
    Written {
        /// In the order of the events.
        events: Vec<Status>,
        /// In the order of the states.
        versions: Vec<i64>,
    },
    /// Nothing was written: an event conflicts.
    Conflict {
        /// In the order of the events.
        events: Vec<Status>,
    },
    /// Nothing was written: another version of a state is there.
    Stale {
        /// Which of the states.
        place: usize,
        /// The version that is there; 0: none.
        version: i64,
    },
    /// Nothing was written: the lock is not alive.
    LockGone,
}

impl Ledger {
    /// Writes a batch whose parts all lie on the shard at `shard` in `Shards::all`.
    pub async fn write_batch(&self, shard: usize, batch: Batch) -> Result<Done> {
        let pool = &self.shards.all()[shard].pool;
        let (events, repeated) = match once_each(batch.events) {
            Part::Sound(events, repeated) => (events, repeated),
            Part::Contradictory(contradiction) => {
                let events = Events::Contradictory(contradiction);
                let work = Work { lock: batch.lock, events, states: batch.states };
                return in_one_transaction(pool, Arc::new(work)).await;
            }
        };
        // Nothing is taken for known: a transaction of its own is rare enough to send everything along.
        let count = events.len();
        let events: Arc<[Event]> = events.into();
        let rows = Rows::of([events.clone()].into(), &Known::default());
        let known = self.writer.known(shard);
        make_months(pool, known, known.new_months(&events)).await?;
        let events_of_it = Events::Sound { count, rows };
        let work = Arc::new(Work { lock: batch.lock, events: events_of_it, states: batch.states });
        let mut tries = MONTHS_MADE_AGAIN;
        let done = loop {
            match in_one_transaction(pool, work.clone()).await {
                Err(error) if lacks_month(&error) && tries > 0 => {
                    // A partition that was there has been dropped since.
                    tries -= 1;
                    known.forget();
                    make_months(pool, known, known.new_months(&events)).await?;
                }
                done => break done,
            }
        };
        let done = done.inspect_err(|_| known.forget())?;
        self.wakes[shard].written();
        Ok(match done {
            Done::Written { events, versions } => {
                Done::Written { events: repeated.put_back(events), versions }
            }
            Done::Conflict { events } => Done::Conflict { events: repeated.put_back(events) },
            other => other,
        })
    }

    /// The shard on which all of these lie, as a place in `Shards::all`. `parts`: the field each came in, and the
    /// beginning of its hash.
    pub(crate) fn one_shard(
        &self,
        parts: impl IntoIterator<Item = (String, u64)>,
    ) -> std::result::Result<Option<usize>, ApiError> {
        let mut first: Option<(usize, String)> = None;
        for (field, prefix) in parts {
            let shard = self.shards.owner_of(prefix);
            match &first {
                None => first = Some((shard, field)),
                Some((known, _)) if *known == shard => {}
                Some((known, other)) => {
                    let name = |shard: usize| &self.shards.all()[shard].name;
                    let reason = format!(
                        "lies on shard {}, but {other} on {}: everything must lie on one shard",
                        name(shard),
                        name(*known)
                    );
                    return Err(ApiError::field(field, reason));
                }
            }
        }
        Ok(first.map(|(shard, _)| shard))
    }
}

/// The error for a lock that has ended.
pub(crate) fn lock_gone() -> ApiError {
    ApiError::new(Code::Stale, "the lock has ended; nothing was written").arg("field", "lock_id")
}

/// What one transaction writes.
struct Work {
    lock: Option<Uuid>,
    events: Events,
    states: Vec<Put>,
}

enum Events {
    Sound {
        /// How many there are.
        count: usize,
        rows: Rows,
    },
    /// They cannot be written, and never have been.
    Contradictory(Contradiction),
}

async fn in_one_transaction(pool: &PgPool, work: Arc<Work>) -> Result<Done> {
    let is_refused = |done: &Done| !matches!(done, Done::Written { .. });
    store::run_refusable(pool, "write_batch", is_refused, move |connection| {
        let work = work.clone();
        Box::pin(async move {
            let mut tx = connection.begin().await?;
            let done = write(&mut tx, &work).await?;
            match done {
                Done::Written { .. } => tx.commit().await?,
                _ => tx.rollback().await?,
            }
            Ok(done)
        })
    })
    .await
}

/// What a batch under a lock that has ended was, if it was done while the lock lived: its answer may have been lost.
async fn already_done(connection: &mut PgConnection, lock: Uuid, work: &Work) -> Result<Done> {
    let Events::Sound { count, rows } = &work.events else { return Ok(Done::LockGone) };
    if *count == 0 && work.states.is_empty() {
        return Ok(Done::LockGone);
    }
    // A write that is under way under the lock holds its row: what becomes of it is waited for.
    let ended = sqlx::query("SELECT FROM locks WHERE lock_id = $1 FOR UPDATE -- ended_lock").bind(lock);
    ended.execute(&mut *connection).await?;
    if !rows.are_written(connection).await? {
        return Ok(Done::LockGone);
    }
    let versions = made_versions(connection, &work.states).await?;
    let events = vec![Status::Duplicate; *count];
    Ok(versions.map_or(Done::LockGone, |versions| Done::Written { events, versions }))
}

async fn write(connection: &mut PgConnection, work: &Work) -> Result<Done> {
    if let Some(lock) = work.lock
        && !matches!(alive_in_tx(connection, lock).await?, Hold::Alive { .. })
    {
        return already_done(connection, lock, work).await;
    }
    let mut versions = Vec::with_capacity(work.states.len());
    if !work.states.is_empty() {
        for (place, outcome) in put_in_tx(connection, &work.states).await?.into_iter().enumerate() {
            match outcome {
                Outcome::Done { version } => versions.push(version),
                Outcome::Stale { version } => return Ok(Done::Stale { place, version }),
            }
        }
    }
    let events = match &work.events {
        Events::Sound { count: 0, .. } => Vec::new(),
        Events::Sound { count, rows } => statuses(*count, rows.write(connection).await?),
        Events::Contradictory(contradiction) => contradiction.judge(connection).await?,
    };
    let written = events.iter().all(|status| matches!(status, Status::Created | Status::Duplicate));
    Ok(if written { Done::Written { events, versions } } else { Done::Conflict { events } })
}
