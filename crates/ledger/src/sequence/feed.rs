//! Feed: reads a shard's events by sequence number.

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use sqlx::PgPool;
use store::Result;

use crate::MAX_PAGE_BYTES;
use crate::ids::SequenceNumber;

/// An event with its sequence number.
#[derive(Debug, Clone, store::FromRow)]
pub struct LedgerFeedEvent {
    /// Sequence number in its shard, from 1.
    pub seq: SequenceNumber,
    /// Name of the account type.
    pub type_name: String,
    /// The account's key attributes, in canonical text.
    pub key: String,
    /// Auxiliary attributes, in canonical text.
    pub auxiliary: String,
    /// Idempotency key, unique per type within its shard.
    pub event_id: String,
    /// Event time, microsecond precision.
    pub dt: DateTime<Utc>,
    /// Amount if the event is a debit.
    pub debit: Option<Decimal>,
    /// Amount if the event is a credit.
    pub credit: Option<Decimal>,
    /// JSON object as received.
    pub info: Option<String>,
}

/// Numbers scanned per round trip where events have been dropped.
const FEED_SCAN_COUNT: i64 = 10_000;

/// Up to `limit` events with numbers above `after`, in order, at most about 4 MiB; empty only at
/// the end of the feed. Gaps are numbers of dropped events only. One round trip, unless a whole
/// page was dropped; reads only the batches of the page.
pub async fn read_feed(
    pool: &PgPool,
    after: SequenceNumber,
    limit: i64,
) -> Result<Vec<LedgerFeedEvent>> {
    let page = read_feed_page(pool, after, limit, limit).await?;
    if !page.is_empty() {
        return Ok(page);
    }
    let (last, drops) = read_feed_end(pool).await?;
    let mut after = after;
    while drops > 0 && after < last {
        let page = read_feed_page(pool, after, FEED_SCAN_COUNT.max(limit), limit).await?;
        if !page.is_empty() {
            return Ok(page);
        }
        after = after.plus(FEED_SCAN_COUNT.max(limit));
    }
    Ok(Vec::new())
}

/// The number up to which all events of a shard have been dropped; the feed begins after it.
pub async fn read_dropped_seq(pool: &PgPool) -> Result<SequenceNumber> {
    store::statement("dropped_seq", "SELECT dropped_seq FROM horizon").fetch_value(pool).await
}

/// Up to `limit` events among the `span_count` numbers above `after`.
async fn read_feed_page(
    pool: &PgPool,
    after: SequenceNumber,
    span_count: i64,
    limit: i64,
) -> Result<Vec<LedgerFeedEvent>> {
    store::statement("feed", FEED_SQL)
        .bind(after)
        .bind(span_count)
        .bind(limit)
        .bind(MAX_PAGE_BYTES)
        .fetch_all(pool)
        .await
}

/// Last assigned number, and how many times events were dropped.
async fn read_feed_end(pool: &PgPool) -> Result<(SequenceNumber, i64)> {
    store::statement("feed_end", "SELECT last_seq, drops FROM sequence, horizon")
        .fetch_one(pool)
        .await
}

/// `octet_length(info)` does not detoast the value. 200 bytes: overhead of an event in JSON.
const FEED_SQL: &str = "SELECT seq, type_name, key, auxiliary, event_id, dt, debit, credit, info FROM (
    SELECT f.*, row_number() OVER in_order AS place,
           sum(octet_length(key) + octet_length(auxiliary) + octet_length(event_id) + coalesce(octet_length(info), 0) + 200)
               OVER in_order AS bytes
    FROM numbered_events($1, $2, $3) f WINDOW in_order AS (ORDER BY seq)
) p WHERE place = 1 OR bytes <= $4 ORDER BY place";
