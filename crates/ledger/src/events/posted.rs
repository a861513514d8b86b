//! Whether an event is there already but for its time: for whoever posts what it works out itself, from data that a restored
//! copy of its own database may have stored at another time. For everybody else an event's time is content.

use std::collections::HashMap;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use rust_decimal::Decimal;
use sqlx::PgConnection;
use store::{LONG, Operation, Result, run, run_tx};
use uuid::Uuid;

use super::Event;
use crate::amount::Amount;
use crate::sharding::{Shards, parse_canonical};

/// What is looked through first: around the event's own time. Then everything: an account's events are read for it.
const NEAR: TimeDelta = TimeDelta::days(2);

type Row = (DateTime<Utc>, String, Option<Decimal>, Option<Decimal>, Option<String>);

/// What the ledger has under the id of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Posting {
    /// Nothing.
    Missing,
    /// The event itself.
    Same,
    /// The same at this time.
    AtAnotherTime(DateTime<Utc>),
    /// Another event.
    Other,
}

/// An event as it is in the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostedEvent {
    /// Its id.
    pub event_id: String,
    /// Its account's type.
    pub type_name: String,
    /// When it happened.
    pub dt: DateTime<Utc>,
    /// The canonical texts of its attributes by name, those of its account included.
    pub attributes: HashMap<String, String>,
}

/// When the event of the same id was posted, if it is the same in account, attributes, amount and info. Two look-ups in one
/// transaction at most, the second one as long as the account's history.
pub async fn posted_at(shards: &Shards, event: &Event) -> Result<Option<DateTime<Utc>>> {
    let pool = &shards.of(event.hash).pool;
    let (account_id, event_id, dt) = (event.account.id, event.event_id.clone(), event.dt);
    let rows: Vec<Row> = run_tx(pool, Operation::named("find_posting").within(LONG), move |connection| {
        let event_id = event_id.clone();
        Box::pin(async move {
            sqlx::query(HOLD_MONTHS).execute(&mut *connection).await?;
            let near = find(connection, account_id, &event_id, Some((dt - NEAR, dt + NEAR))).await?;
            if near.is_empty() { find(connection, account_id, &event_id, None).await } else { Ok(near) }
        })
    })
    .await?;
    let same = |row: &&Row| {
        let amount = match (row.2, row.3) {
            (Some(debit), None) => Some(Amount::Debit(debit)),
            (None, Some(credit)) => Some(Amount::Credit(credit)),
            _ => None,
        };
        row.1 == event.tuple.canonical && amount == Some(event.amount) && row.4 == event.info
    };
    Ok(rows.iter().find(same).map(|row| row.0))
}

/// What the ledger has under the ids of `events`, in their order. One round trip to each shard; more for those that differ.
pub async fn postings(shards: &Shards, events: &[Event]) -> Result<Vec<Posting>> {
    let mut kept: HashMap<Uuid, Uuid> = HashMap::with_capacity(events.len());
    for (n, shard) in shards.all().iter().enumerate() {
        let here = events.iter().filter(|event| shards.owner(event.hash) == n);
        let keys: Arc<[Uuid]> = here.map(|event| event.key).collect();
        if keys.is_empty() {
            continue;
        }
        let rows: Vec<(Uuid, Uuid)> = run(&shard.pool, "find_posting_keys", move |connection| {
            let keys = keys.clone();
            Box::pin(
                async move { Ok(sqlx::query_as(FIND_KEYS).bind(&keys[..]).fetch_all(connection).await?) },
            )
        })
        .await?;
        kept.extend(rows);
    }
    let mut postings = Vec::with_capacity(events.len());
    for event in events {
        postings.push(match kept.get(&event.key) {
            None => Posting::Missing,
            Some(content) if *content == event.content => Posting::Same,
            Some(_) => posted_at(shards, event).await?.map_or(Posting::Other, Posting::AtAnotherTime),
        });
    }
    Ok(postings)
}

/// The events with these ids, whatever their accounts. Reads every event of every shard: for an operator's commands.
pub async fn find_posted(shards: &Shards, event_ids: Vec<String>) -> Result<Vec<PostedEvent>> {
    let event_ids: Arc<[String]> = event_ids.into();
    let mut found = Vec::new();
    for shard in shards.all() {
        let event_ids = event_ids.clone();
        let rows: Vec<(String, String, DateTime<Utc>, String, String)> =
            run_tx(&shard.pool, Operation::named("find_posted").within(LONG), move |connection| {
                let event_ids = event_ids.clone();
                Box::pin(async move {
                    sqlx::query(HOLD_MONTHS).execute(&mut *connection).await?;
                    Ok(sqlx::query_as(FIND_POSTED).bind(&event_ids[..]).fetch_all(connection).await?)
                })
            })
            .await?;
        found.extend(rows.into_iter().map(|(event_id, type_name, dt, account, tuple)| {
            let attributes = [account, tuple].iter().flat_map(|text| parse_canonical(text)).collect();
            PostedEvent { event_id, type_name, dt, attributes }
        }));
    }
    Ok(found)
}

async fn find(
    connection: &mut PgConnection,
    account_id: i64,
    event_id: &str,
    within: Option<(DateTime<Utc>, DateTime<Utc>)>,
) -> Result<Vec<Row>> {
    let (from, to) = within.unzip();
    let found = sqlx::query_as(FIND).bind(account_id).bind(event_id).bind(from).bind(to);
    Ok(found.fetch_all(connection).await?)
}

/// No month is attached or dropped meanwhile: every one is seen.
const HOLD_MONTHS: &str =
    "SELECT pg_advisory_xact_lock_shared(hashtext(current_schema() || '.event_months')) -- hold_event_months";

const FIND: &str = "-- find_posting
SELECT e.dt, t.canonical, e.debit, e.credit, e.info
FROM (
    SELECT * FROM events
    WHERE account_id = $1 AND event_id = $2
      AND dt >= coalesce($3, '-infinity'::timestamptz) AND dt < coalesce($4, 'infinity'::timestamptz)
) e JOIN tuples t USING (tuple_id)";

const FIND_KEYS: &str = "SELECT key, content FROM event_keys WHERE key = ANY ($1) -- find_posting_keys";

const FIND_POSTED: &str = "-- find_posted
SELECT e.event_id, a.type, e.dt, a.attributes, t.canonical
FROM events e JOIN accounts a USING (account_id) JOIN tuples t USING (tuple_id)
WHERE e.event_id = ANY ($1)";
