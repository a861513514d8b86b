//! Listing an account's events, a page at a time, in the order of (dt, event id).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use sqlx::PgPool;
use store::{PgOperation, Result, run_statement};

use super::input::MAX_EVENT_ID_BYTES;
use crate::{MAX_PAGE_BYTES, moment};

/// Where a page ends; the next one begins after it, whatever is written meanwhile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerEventCursor {
    dt: DateTime<Utc>,
    event_id: String,
}

impl LedgerEventCursor {
    /// The token for a page of this account.
    pub fn encode_token(&self, account_id: i64) -> String {
        let text = format!("{account_id:x} {} {}", self.dt.timestamp_micros(), self.event_id);
        URL_SAFE_NO_PAD.encode(text)
    }

    /// Reads a token; `None` if it is not one of this account's.
    pub fn parse_token(token: &str, account_id: i64) -> Option<Self> {
        let text = String::from_utf8(URL_SAFE_NO_PAD.decode(token).ok()?).ok()?;
        let mut words = text.splitn(3, ' ');
        if words.next()? != format!("{account_id:x}") {
            return None;
        }
        let dt = DateTime::from_timestamp_micros(words.next()?.parse().ok()?)?;
        let event_id = words.next()?;
        // Only what an event can have: a forged one must not reach the database.
        let possible = moment::can_have_events(dt)
            && event_id.len() <= MAX_EVENT_ID_BYTES
            && !event_id.contains('\0');
        possible.then(|| Self { dt, event_id: event_id.to_owned() })
    }
}

/// Which events.
#[derive(Debug, Clone)]
pub struct LedgerEventQuery {
    /// Of this account.
    pub account_id: i64,
    /// Not before.
    pub from: DateTime<Utc>,
    /// Before.
    pub to: DateTime<Utc>,
    /// After this page.
    pub after: Option<LedgerEventCursor>,
    /// At most so many.
    pub limit: i64,
}

/// An event as it is stored.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct LedgerEventRow {
    /// When it happened.
    pub dt: DateTime<Utc>,
    /// Its id.
    pub event_id: String,
    /// Its auxiliary attributes, as canonical text.
    pub auxiliary: String,
    /// What it adds to the balance, if it does.
    pub debit: Option<Decimal>,
    /// What it takes from the balance, if it does.
    pub credit: Option<Decimal>,
    /// A JSON object as written.
    pub info: Option<String>,
}

impl LedgerEventRow {
    /// The page that ends with it.
    pub fn to_cursor(&self) -> LedgerEventCursor {
        LedgerEventCursor { dt: self.dt, event_id: self.event_id.clone() }
    }
}

/// A page of events.
#[derive(Debug, Clone, Default)]
pub struct LedgerEventPage {
    /// In the order of (dt, event id).
    pub events: Vec<LedgerEventRow>,
    /// Whether there are others after them.
    pub has_more: bool,
}

#[derive(sqlx::FromRow)]
struct LedgerEventPageRow {
    #[sqlx(flatten)]
    event: LedgerEventRow,
    /// How many there were before the page was cut by its bytes.
    found: i64,
}

/// A page of events, of about 4 MiB at most. One round trip; reads hardly more rows than it answers, but for events of one
/// account at the very same moment, which are sorted.
pub async fn list_events(pool: &PgPool, query: LedgerEventQuery) -> Result<LedgerEventPage> {
    let limit = usize::try_from(query.limit).unwrap_or(usize::MAX);
    let rows = read_event_page(pool, query).await?;
    let found = rows.first().map_or(0, |row| usize::try_from(row.found).unwrap_or(usize::MAX));
    let mut events: Vec<LedgerEventRow> = rows.into_iter().map(|row| row.event).collect();
    events.truncate(limit);
    Ok(LedgerEventPage { has_more: found > events.len(), events })
}

/// One more than the page may have, to know whether there are more.
async fn read_event_page(
    pool: &PgPool,
    query: LedgerEventQuery,
) -> Result<Vec<LedgerEventPageRow>> {
    run_statement(pool, PgOperation::named("list_events").expensive(), move |connection| {
        let query = query.clone();
        let (after_dt, after_id) = query.after.map(|page| (page.dt, page.event_id)).unzip();
        let from = after_dt.map_or(query.from, |after| after.max(query.from));
        Box::pin(async move {
            let statement = sqlx::query_as(LIST_EVENTS_SQL)
                .bind(query.account_id)
                .bind(from)
                .bind(query.to)
                .bind(after_dt)
                .bind(after_id)
                .bind(query.limit + 1)
                .bind(MAX_PAGE_BYTES);
            Ok(statement.fetch_all(connection).await?)
        })
    })
    .await
}

/// The size of an `info` is known without reading it. An event is shown with some 200 bytes beside its own texts.
const LIST_EVENTS_SQL: &str = "-- list_events
SELECT dt, event_id, auxiliary, debit, credit, info, found FROM (
    SELECT l.*, count(*) OVER () AS found, row_number() OVER in_order AS place,
           sum(octet_length(l.event_id) + octet_length(l.auxiliary) + coalesce(octet_length(l.info), 0) + 200) OVER in_order AS bytes
    FROM list_events($1, $2, $3, $4, $5, $6) l
    WINDOW in_order AS (ORDER BY l.dt, l.event_id COLLATE \"C\")
) p WHERE place = 1 OR bytes <= $7 ORDER BY place";
