//! Lookup of stored events by id, with a match that ignores the event time.
//!
//! For callers that derive events from a database of their own: after
//! a restore from backup, the same event may be derived with another
//! time. For all other callers the time is part of the content.

use std::collections::HashMap;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use rust_decimal::Decimal;
use sqlx::PgConnection;
use store::{LONG_OPERATION_TIMEOUT, PgOperation, Result};
use uuid::Uuid;

use super::LedgerEvent;
use crate::amount::Amount;
use crate::ids::AccountId;
use crate::sharding::{LedgerShards, parse_canonical};

/// First search window, on both sides of the event's time.
/// The second search reads all events of the account.
const SEARCH_WINDOW: TimeDelta = TimeDelta::days(2);

/// A stored event with the id and account of a sought one.
#[derive(store::FromRow)]
struct LedgerEventMatchRow {
    dt: DateTime<Utc>,
    /// Attribute set, in canonical text.
    canonical: String,
    debit: Option<Decimal>,
    credit: Option<Decimal>,
    info: Option<String>,
}

/// What the ledger stores under an event's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LedgerEventMatch {
    /// No event has this id.
    Missing,
    /// An event with the same content.
    Same,
    /// The same content except for the time, which is this one.
    AtAnotherTime(DateTime<Utc>),
    /// An event with other content.
    Other,
}

/// An event as stored in the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredLedgerEvent {
    /// Idempotency key, unique per type within its shard.
    pub event_id: String,
    /// Name of the account type.
    pub type_name: String,
    /// Event time, microsecond precision.
    pub dt: DateTime<Utc>,
    /// Canonical attribute values by name, including the account's key attributes.
    pub attributes: HashMap<String, String>,
}

/// The time of the stored event with the same id, account, attributes, amount and info. At most two
/// queries in one transaction; the second one reads the account's whole history.
pub async fn find_event_time(
    shards: &LedgerShards,
    event: &LedgerEvent,
) -> Result<Option<DateTime<Utc>>> {
    let pool = &shards.shard_of_hash(event.shard_hash).pool;
    let operation = PgOperation::named("find_posting").with_timeout(LONG_OPERATION_TIMEOUT);
    let arguments = (event.account.id, event.event_id.clone(), event.dt);
    let rows: Vec<LedgerEventMatchRow> = store::transaction(operation, arguments)
        .run(pool, |connection, (account_id, event_id, dt)| {
            Box::pin(async move {
                lock_partitions_in_tx(connection).await?;
                let window = (*dt - SEARCH_WINDOW, *dt + SEARCH_WINDOW);
                let near = find_event_rows(connection, *account_id, event_id, Some(window)).await?;
                if near.is_empty() {
                    find_event_rows(connection, *account_id, event_id, None).await
                } else {
                    Ok(near)
                }
            })
        })
        .await?;
    Ok(rows.iter().find(|row| has_same_content(row, event)).map(|row| row.dt))
}

/// Whether the row has the event's attributes, amount and info.
fn has_same_content(row: &LedgerEventMatchRow, event: &LedgerEvent) -> bool {
    let amount = match (row.debit, row.credit) {
        (Some(debit), None) => Some(Amount::Debit(debit)),
        (None, Some(credit)) => Some(Amount::Credit(credit)),
        _ => None,
    };
    row.canonical == event.attribute_set.canonical
        && amount == Some(event.amount)
        && row.info == event.info
}

/// Matches `events` against the ledger, in their order. One round trip per shard, plus one
/// transaction per event whose content differs.
pub async fn match_stored_events(
    shards: &LedgerShards,
    events: &[LedgerEvent],
) -> Result<Vec<LedgerEventMatch>> {
    let mut stored_fingerprints: HashMap<Uuid, Uuid> = HashMap::with_capacity(events.len());
    for (shard_index, shard) in shards.all().iter().enumerate() {
        let here =
            events.iter().filter(|event| shards.index_of_hash(event.shard_hash) == shard_index);
        let keys: Vec<Uuid> = here.map(|event| event.key).collect();
        if keys.is_empty() {
            continue;
        }
        let rows: Vec<(Uuid, Uuid)> = store::statement("find_posting_keys", FIND_EVENT_KEYS_SQL)
            .bind(keys)
            .fetch_all(&shard.pool)
            .await?;
        stored_fingerprints.extend(rows);
    }
    let mut postings = Vec::with_capacity(events.len());
    for event in events {
        postings.push(match stored_fingerprints.get(&event.key) {
            None => LedgerEventMatch::Missing,
            Some(content) if *content == event.fingerprint => LedgerEventMatch::Same,
            Some(_) => find_event_time(shards, event)
                .await?
                .map_or(LedgerEventMatch::Other, LedgerEventMatch::AtAnotherTime),
        });
    }
    Ok(postings)
}

/// The events with these ids, of any account. Full scan of every shard: for operator commands only.
pub async fn find_stored_events(
    shards: &LedgerShards,
    events: Vec<String>,
) -> Result<Vec<StoredLedgerEvent>> {
    let operation = PgOperation::named("find_posted").with_timeout(LONG_OPERATION_TIMEOUT);
    let events: Arc<[String]> = events.into();
    let mut found = Vec::new();
    for shard in shards.all() {
        let rows: Vec<(String, String, DateTime<Utc>, String, String)> =
            store::transaction(operation, events.clone())
                .run(&shard.pool, |connection, events| {
                    Box::pin(async move {
                        lock_partitions_in_tx(connection).await?;
                        store::statement("find_posted", FIND_STORED_EVENTS_SQL)
                            .bind(&events[..])
                            .fetch_all(connection)
                            .await
                    })
                })
                .await?;
        found.extend(rows.into_iter().map(|(event_id, type_name, dt, account, tuple)| {
            let attributes =
                [account, tuple].iter().flat_map(|text| parse_canonical(text)).collect();
            StoredLedgerEvent { event_id, type_name, dt, attributes }
        }));
    }
    Ok(found)
}

async fn find_event_rows(
    connection: &mut PgConnection,
    account_id: AccountId,
    event_id: &str,
    range: Option<(DateTime<Utc>, DateTime<Utc>)>,
) -> Result<Vec<LedgerEventMatchRow>> {
    let (from, to) = range.unzip();
    store::statement("find_posting", FIND_EVENT_SQL)
        .bind(account_id)
        .bind(event_id)
        .bind(from)
        .bind(to)
        .fetch_all(connection)
        .await
}

/// Shared gate of `events`: blocks a concurrent ATTACH PARTITION. A backend that is building its
/// relcache partition descriptor can lose the invalidation message and miss the new partition.
async fn lock_partitions_in_tx(connection: &mut PgConnection) -> Result<()> {
    store::statement("hold_event_months", LOCK_PARTITIONS_SQL).execute(connection).await?;
    Ok(())
}

const LOCK_PARTITIONS_SQL: &str =
    "SELECT pg_advisory_xact_lock_shared(hashtext('\"' || current_schema() || '\".event_months'))";

const FIND_EVENT_SQL: &str = "SELECT e.dt, t.canonical, e.debit, e.credit, e.info
FROM (
    SELECT * FROM events
    WHERE account_id = $1 AND event_id = $2
      AND dt >= coalesce($3, '-infinity'::timestamptz) AND dt < coalesce($4, 'infinity'::timestamptz)
) e JOIN tuples t USING (tuple_id)";

const FIND_EVENT_KEYS_SQL: &str = "SELECT key, content FROM event_keys WHERE key = ANY ($1)";

const FIND_STORED_EVENTS_SQL: &str = "SELECT e.event_id, a.type, e.dt, a.attributes, t.canonical
FROM events e JOIN accounts a USING (account_id) JOIN tuples t USING (tuple_id)
WHERE e.event_id = ANY ($1)";
