//! Event listing of an account: keyset pagination by (dt, event id).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use sqlx::PgPool;
use store::{PgOperation, Result};

use super::input::MAX_EVENT_ID_BYTES;
use crate::ids::AccountId;
use crate::{MAX_PAGE_BYTES, moment};

/// Keyset cursor at a page's last event; concurrent writes do not shift later pages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerEventCursor {
    dt: DateTime<Utc>,
    event_id: String,
}

impl LedgerEventCursor {
    /// Encodes the cursor as a page token of this account.
    pub fn encode_token(&self, account_id: AccountId) -> String {
        let text =
            format!("{:x} {} {}", account_id.get(), self.dt.timestamp_micros(), self.event_id);
        URL_SAFE_NO_PAD.encode(text)
    }

    /// Decodes a page token; `None` if it is malformed or of another account.
    pub fn parse_token(token: &str, account_id: AccountId) -> Option<Self> {
        let text = String::from_utf8(URL_SAFE_NO_PAD.decode(token).ok()?).ok()?;
        let mut words = text.splitn(3, ' ');
        if words.next()? != format!("{:x}", account_id.get()) {
            return None;
        }
        let dt = DateTime::from_timestamp_micros(words.next()?.parse().ok()?)?;
        let event_id = words.next()?;
        // Reject values that no event has: a forged token must not cause a database error.
        let possible = moment::can_have_events(dt)
            && event_id.len() <= MAX_EVENT_ID_BYTES
            && !event_id.contains('\0');
        possible.then(|| Self { dt, event_id: event_id.to_owned() })
    }
}

/// Filter and page of a listing.
#[derive(Debug, Clone)]
pub struct LedgerEventQuery {
    /// Id of the account.
    pub account_id: AccountId,
    /// Inclusive lower bound of the event time.
    pub from: DateTime<Utc>,
    /// Exclusive upper bound of the event time.
    pub to: DateTime<Utc>,
    /// Cursor of the previous page.
    pub after: Option<LedgerEventCursor>,
    /// Maximum events in the page.
    pub limit: i64,
}

/// An event as stored.
#[derive(Debug, Clone, store::FromRow)]
pub struct LedgerEventRow {
    /// Event time, microsecond precision.
    pub dt: DateTime<Utc>,
    /// Idempotency key, unique per type within its shard.
    pub event_id: String,
    /// Auxiliary attributes, in canonical text.
    pub auxiliary: String,
    /// Amount if the event is a debit.
    pub debit: Option<Decimal>,
    /// Amount if the event is a credit.
    pub credit: Option<Decimal>,
    /// JSON object as received.
    pub info: Option<String>,
}

impl LedgerEventRow {
    /// Cursor of a page that ends with this event.
    pub fn to_cursor(&self) -> LedgerEventCursor {
        LedgerEventCursor { dt: self.dt, event_id: self.event_id.clone() }
    }
}

/// One page of events.
#[derive(Debug, Clone, Default)]
pub struct LedgerEventPage {
    /// Ordered by (dt, event id).
    pub events: Vec<LedgerEventRow>,
    /// Whether more events follow.
    pub has_more: bool,
}

#[derive(store::FromRow)]
struct LedgerEventPageRow {
    #[sqlx(flatten)]
    event: LedgerEventRow,
    /// Rows found before the page was cut by bytes.
    found: i64,
}

/// Reads one page of events, at most about 4 MiB. One round trip. Reads few rows beyond the page,
/// except that all of an account's events with the same time are sorted.
pub async fn list_events(pool: &PgPool, query: LedgerEventQuery) -> Result<LedgerEventPage> {
    let limit = usize::try_from(query.limit).unwrap_or(usize::MAX);
    let rows = read_event_page(pool, query).await?;
    let found = rows.first().map_or(0, |row| usize::try_from(row.found).unwrap_or(usize::MAX));
    let mut events: Vec<LedgerEventRow> = rows.into_iter().map(|row| row.event).collect();
    events.truncate(limit);
    Ok(LedgerEventPage { has_more: found > events.len(), events })
}

/// Reads one row beyond the limit, to detect further pages.
async fn read_event_page(
    pool: &PgPool,
    query: LedgerEventQuery,
) -> Result<Vec<LedgerEventPageRow>> {
    let (after_dt, after_id) = query.after.map(|page| (page.dt, page.event_id)).unzip();
    let from = after_dt.map_or(query.from, |after| after.max(query.from));
    store::statement(PgOperation::named("list_events").expensive(), LIST_EVENTS_SQL)
        .bind(query.account_id)
        .bind(from)
        .bind(query.to)
        .bind(after_dt)
        .bind(after_id)
        .bind(query.limit + 1)
        .bind(MAX_PAGE_BYTES)
        .fetch_all(pool)
        .await
}

/// `octet_length(info)` does not detoast the value. 200 bytes: overhead of an event in JSON.
const LIST_EVENTS_SQL: &str = "SELECT dt, event_id, auxiliary, debit, credit, info, found FROM (
    SELECT l.*, count(*) OVER () AS found, row_number() OVER in_order AS place,
           sum(octet_length(l.event_id) + octet_length(l.auxiliary) + coalesce(octet_length(l.info), 0) + 200) OVER in_order AS bytes
    FROM list_events($1, $2, $3, $4, $5, $6) l
    WINDOW in_order AS (ORDER BY l.dt, l.event_id COLLATE \"C\")
) p WHERE place = 1 OR bytes <= $7 ORDER BY place";
