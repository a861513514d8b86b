//! Callbacks: stored in one statement for all that came in meanwhile, the first one of each order for good.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use queue::hurry_in_tx;
use sqlx::PgPool;
use store::{Coalescer, Error, Operation, Result, Turn, connection_of_its_own, run, run_tx};
use tokio::sync::oneshot;

use super::{QUEUE, orphan, paced};

/// The channel on which replicas tell each other of callbacks that are not theirs.
pub const CALLBACK_CHANNEL: &str = "order_callbacks";

/// Where an order goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Data {
    /// Never 0.
    pub storage_id: i32,
    /// Never 0.
    pub pickup_point_id: i32,
}

impl Data {
    /// What a data manager gave; `None` if one of them is 0.
    pub fn given(storage_id: i32, pickup_point_id: i32) -> Option<Self> {
        Self::stored(storage_id, pickup_point_id)
    }

    /// As stored: 0 stands for nothing.
    pub(super) fn stored(storage_id: i32, pickup_point_id: i32) -> Option<Self> {
        (storage_id != 0 && pickup_point_id != 0).then_some(Self { storage_id, pickup_point_id })
    }
}

/// What an order's postings are made of besides its data, fixed by the transaction that stored the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Basis {
    /// The database's time of that transaction.
    pub at: DateTime<Utc>,
    /// The version of the posting rules then in force; 0 if there were none.
    pub rules: i32,
}

/// An order's data as it was stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// The data.
    pub data: Data,
    /// What came with storing it.
    pub basis: Basis,
}

impl Stored {
    /// From an order's row.
    pub(super) fn of(
        storage_id: i32,
        pickup_point_id: i32,
        at: Option<DateTime<Utc>>,
        rules: Option<i32>,
    ) -> Option<Self> {
        let data = Data::stored(storage_id, pickup_point_id)?;
        // What was stored before there was a ledger posts by the first rules there were.
        Some(Self { data, basis: Basis { at: at?, rules: rules.unwrap_or(1) } })
    }
}

/// A data manager's answer about one order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Callback {
    /// The order.
    pub order_id: i32,
    /// Its data.
    pub data: Data,
}

/// What became of a callback; in each case it is committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallbackAnswer {
    /// It is the order's data now.
    Stored,
    /// The order had its data already.
    Duplicate,
    /// There is no such order; kept for an operator.
    Unknown,
}

/// Stores callbacks.
#[derive(Clone)]
pub struct CallbackStore {
    callbacks: Coalescer<Arrived>,
}

struct Arrived {
    callback: Callback,
    reply: oneshot::Sender<Result<CallbackAnswer>>,
}

/// Hands an order's stored data to whoever waits for it in this process; false if nobody does.
pub type Deliver = Arc<dyn Fn(i32, Stored) -> bool + Send + Sync>;

impl CallbackStore {
    /// Starts storing. Stored data goes to `deliver`; if nobody takes it there, to the retry queue and the replicas.
    pub fn start(pool: PgPool, deliver: Deliver) -> Self {
        let forwarding = pool.clone();
        let forward = Coalescer::spawn("forward_callbacks", 65_536, 4096, move |batch| {
            let pool = forwarding.clone();
            async move { forward_elsewhere(&pool, batch).await }
        });
        let pool = connection_of_its_own(&pool);
        let callbacks = Coalescer::spawn_fair("store_callbacks", 65_536, paced(8192), move |batch| {
            let (pool, deliver, forward) = (pool.clone(), deliver.clone(), forward.clone());
            async move { settle(&pool, &deliver, &forward, batch).await }
        });
        Self { callbacks }
    }

    /// Stores one callback. Answers after the commit.
    pub async fn store(&self, callback: Callback) -> Result<CallbackAnswer> {
        self.store_one_of(Turn::next(), callback).await
    }

    /// Stores one of many callbacks that came in one call.
    pub async fn store_one_of(&self, turn: Turn, callback: Callback) -> Result<CallbackAnswer> {
        let answer = self.callbacks.ask_for(turn, |reply| Arrived { callback, reply }).await;
        answer.unwrap_or(Err(Error::Abandoned))
    }
}

async fn settle(pool: &PgPool, deliver: &Deliver, forward: &Coalescer<(i32, Stored)>, batch: Vec<Arrived>) {
    let mut first: HashMap<i32, Data> = HashMap::with_capacity(batch.len());
    for Arrived { callback, .. } in &batch {
        first.entry(callback.order_id).or_insert(callback.data);
    }
    let mutated = || -> Vec<Verdict> {
        let answer = CallbackAnswer::Stored;
        first.keys().map(|order_id| Verdict { order_id: *order_id, stored: None, answer }).collect()
    };
    let written = match store::mutant("callback_answered_before_commit") {
        true => Ok(mutated()),
        false => write(pool, first).await,
    };
    let verdicts = match written {
        Ok(verdicts) => verdicts,
        Err(error) => {
            for arrived in batch {
                let _ = arrived.reply.send(Err(error.clone()));
            }
            return;
        }
    };
    store::fail_point("callbacks_stored");
    let mut told = HashMap::with_capacity(verdicts.len());
    for Verdict { order_id, stored, answer } in verdicts {
        told.insert(order_id, answer);
        // A duplicate too: it may be the repetition of a write whose answer was lost, and the order wait elsewhere.
        if let Some(stored) = stored
            && !deliver(order_id, stored)
            && !store::mutant("callback_not_forwarded")
        {
            forward.push((order_id, stored)).await;
        }
    }
    for Arrived { callback, reply } in batch {
        // Of several for one order in this batch, the first was stored.
        let answer = told.get_mut(&callback.order_id);
        let answer = answer.map_or(CallbackAnswer::Unknown, |answer| match *answer {
            CallbackAnswer::Stored => std::mem::replace(answer, CallbackAnswer::Duplicate),
            other => other,
        });
        metrics::counter!("order_callbacks_total", "kind" => kind(answer)).increment(1);
        // The sender may be gone.
        let _ = reply.send(Ok(answer));
    }
}

fn kind(answer: CallbackAnswer) -> &'static str {
    match answer {
        CallbackAnswer::Stored => "stored",
        CallbackAnswer::Duplicate => "duplicate",
        CallbackAnswer::Unknown => "unknown",
    }
}

struct Verdict {
    order_id: i32,
    /// What the order's data is now.
    stored: Option<Stored>,
    answer: CallbackAnswer,
}

async fn write(pool: &PgPool, callbacks: HashMap<i32, Data>) -> Result<Vec<Verdict>> {
    let mut rows: Vec<(i32, Data)> = callbacks.into_iter().collect();
    rows.sort_unstable_by_key(|row| row.0);
    let ids: Arc<[i32]> = rows.iter().map(|row| row.0).collect();
    let storages: Arc<[i32]> = rows.iter().map(|row| row.1.storage_id).collect();
    let pickups: Arc<[i32]> = rows.iter().map(|row| row.1.pickup_point_id).collect();
    let told: Vec<Told> = run(pool, "store_callbacks", move |connection| {
        let (ids, storages, pickups) = (ids.clone(), storages.clone(), pickups.clone());
        Box::pin(async move {
            let rows = sqlx::query_as(STORE).bind(&ids[..]).bind(&storages[..]).bind(&pickups[..]);
            Ok(rows.fetch_all(connection).await?)
        })
    })
    .await?;
    let mut known: HashMap<i32, (Option<Stored>, Option<Basis>)> = HashMap::with_capacity(told.len());
    for (order_id, storage_id, pickup_point_id, at, rules, stored_now) in told {
        let entry = known.entry(order_id).or_default();
        entry.0 = entry.0.or(Stored::of(storage_id, pickup_point_id, at, rules));
        entry.1 = entry.1.or_else(|| Some(Basis { at: at?, rules: rules? }).filter(|_| stored_now));
    }
    let unknown: Vec<Callback> = rows
        .iter()
        .filter(|(order_id, _)| !known.contains_key(order_id))
        .map(|(order_id, data)| Callback { order_id: *order_id, data: *data })
        .collect();
    if let Err(error) = orphan::keep(pool, unknown).await {
        // The others of this batch are committed, and theirs is the promise.
        tracing::warn!(%error, code = "UNAVAILABLE", "callbacks of unknown orders could not be kept");
    }
    let verdict = |(order_id, data): (i32, Data)| match known.get(&order_id) {
        None => Verdict { order_id, stored: None, answer: CallbackAnswer::Unknown },
        Some((_, Some(basis))) => {
            let stored = Some(Stored { data, basis: *basis });
            Verdict { order_id, stored, answer: CallbackAnswer::Stored }
        }
        Some((stored, None)) => Verdict { order_id, stored: *stored, answer: CallbackAnswer::Duplicate },
    };
    Ok(rows.into_iter().map(verdict).collect())
}

/// Short enough for a second try on another connection before the order's time for its callback is over.
const FORWARD_TIMEOUT: Duration = Duration::from_secs(2);

/// Nobody in this process waits for these: they wake their job, and the replica that has asked, if there is one. Those of
/// orders that have ended, which a data manager may repeat for as long as it likes, concern nobody. Lost if the process
/// dies here; then the order's next attempt finds the data.
async fn forward_elsewhere(pool: &PgPool, callbacks: Vec<(i32, Stored)>) {
    let callbacks: Arc<[(i32, Stored)]> = callbacks.into();
    let forward = Operation::named("forward_callbacks").within(FORWARD_TIMEOUT);
    let forwarded = run_tx(pool, forward, move |connection| {
        let callbacks = callbacks.clone();
        Box::pin(async move {
            let ids: Vec<i32> = callbacks.iter().map(|callback| callback.0).collect();
            let unended: HashSet<i32> = sqlx::query_scalar(UNENDED)
                .bind(ids)
                .fetch_all(&mut *connection)
                .await?
                .into_iter()
                .collect();
            if unended.is_empty() {
                return Ok(());
            }
            let keys: Vec<String> = unended.iter().map(i32::to_string).collect();
            hurry_in_tx(connection, QUEUE, &keys).await?;
            let words: Vec<String> =
                callbacks.iter().filter(|callback| unended.contains(&callback.0)).map(word).collect();
            // A notification holds 8000 bytes, a callback at most 66.
            let payloads: Vec<String> = words.chunks(120).map(|words| words.join(",")).collect();
            sqlx::query(
                "SELECT pg_notify($1, payload) FROM unnest($2::text[]) AS payload -- notify_callbacks",
            )
            .bind(CALLBACK_CHANNEL)
            .bind(payloads)
            .execute(connection)
            .await?;
            Ok(())
        })
    });
    if let Err(error) = forwarded.await {
        tracing::warn!(%error, code = "UNAVAILABLE", "callbacks could not be forwarded; retries will find them");
    }
}

const UNENDED: &str =
    "SELECT order_id FROM orders WHERE order_id = ANY ($1) AND state < 4 -- orders_to_forward_to";

fn word((order_id, Stored { data, basis }): &(i32, Stored)) -> String {
    let (storage, pickup) = (data.storage_id, data.pickup_point_id);
    format!("{order_id}:{storage}:{pickup}:{}:{}", basis.at.timestamp_micros(), basis.rules)
}

/// The callbacks of a [`CALLBACK_CHANNEL`] notification; what does not read as one is left out.
pub fn parse_notification(payload: &str) -> impl Iterator<Item = (i32, Stored)> {
    payload.split(',').filter_map(|word| {
        let mut words = word.split(':');
        let mut number = || words.next()?.parse::<i64>().ok();
        let (order_id, storage, pickup) = (number()?, number()?, number()?);
        let (at, rules) = (DateTime::from_timestamp_micros(number()?)?, number()?);
        let data = Data::stored(storage.try_into().ok()?, pickup.try_into().ok()?)?;
        let basis = Basis { at, rules: rules.try_into().ok()? };
        Some((order_id.try_into().ok()?, Stored { data, basis }))
    })
}

/// (order, storage, pickup point, stored at, version of the posting rules, whether it was stored just now)
type Told = (i32, i32, i32, Option<DateTime<Utc>>, Option<i32>, bool);

/// Each order whose data this callback became (with zeros for it), and, if there are others, each known order with what is
/// stored.
const STORE: &str = "SELECT * FROM store_callbacks($1, $2, $3) -- store_callbacks";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notifications_carry_any_order_id() {
        let callback = |order_id, storage_id, pickup_point_id| {
            let basis = Basis { at: DateTime::UNIX_EPOCH, rules: i32::MAX };
            (order_id, Stored { data: Data { storage_id, pickup_point_id }, basis })
        };
        let told = [callback(i32::MIN, i32::MIN, 2), callback(0, 3, 4)];
        let payload = format!("{},{},x,5:0:1:0:1,7,1:2:3", word(&told[0]), word(&told[1]));
        assert_eq!(parse_notification(&payload).collect::<Vec<_>>(), told);
    }
}
