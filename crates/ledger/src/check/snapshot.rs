//! One moment of a shard, and rows of it in an order, a page at a time.

use std::collections::VecDeque;
use std::future::Future;
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::postgres::PgRow;
use sqlx::{FromRow, PgConnection, PgPool, Postgres};
use store::Result;
use tokio::time::timeout;

/// One moment of a shard, for as long as it is looked at. Its connection is closed afterwards: whoever is cut short leaves
/// no transaction behind.
pub(super) struct Snapshot(PoolConnection<Postgres>);

impl Snapshot {
    pub(super) async fn take(pool: &PgPool) -> Result<Self> {
        let mut connection = pool.acquire().await?;
        connection.close_on_drop();
        answered(sqlx::raw_sql(BEGIN).execute(&mut *connection)).await?;
        Ok(Self(connection))
    }

    pub(super) fn connection(&mut self) -> &mut PgConnection {
        &mut self.0
    }
}

/// The first page of a cursor may take a sort of everything. A program that is stopped holds the moment for a while only.
///
/// The lock comes first, before anything is seen: a month that is dropped after the moment would be missing from the events,
/// for the catalogue is read as it is, while its sums would not be among those that closed yet.
const BEGIN: &str = "-- check_snapshot
BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
SET LOCAL statement_timeout = '30min';
SET LOCAL idle_in_transaction_session_timeout = '10min';
SET LOCAL cursor_tuple_fraction = 1;
LOCK TABLE ONLY events IN ACCESS SHARE MODE";

/// A server that has not answered by then is not there: a little more than its own limit.
const NO_ANSWER: Duration = Duration::from_secs(30 * 60 + 10);

async fn answered<T>(work: impl Future<Output = sqlx::Result<T>>) -> Result<T> {
    let silent = || sqlx::Error::Io(std::io::ErrorKind::TimedOut.into());
    Ok(timeout(NO_ANSWER, work).await.unwrap_or_else(|_| Err(silent()))?)
}

/// A cursor's statements.
pub(super) struct Cursor {
    pub(super) declare: &'static str,
    /// Fetches one page.
    pub(super) fetch: &'static str,
}

/// What a cursor yields, in its order.
pub(super) struct Ordered<T> {
    fetch: &'static str,
    page: VecDeque<T>,
    ended: bool,
}

impl<T: for<'r> FromRow<'r, PgRow> + Send + Unpin> Ordered<T> {
    pub(super) async fn open(snapshot: &mut Snapshot, cursor: Cursor) -> Result<Self> {
        answered(sqlx::raw_sql(cursor.declare).execute(snapshot.connection())).await?;
        Ok(Self { fetch: cursor.fetch, page: VecDeque::new(), ended: false })
    }

    /// Fetches the next page if there is none; whether it did.
    pub(super) async fn refill(&mut self, snapshot: &mut Snapshot) -> Result<bool> {
        if self.ended || !self.page.is_empty() {
            return Ok(false);
        }
        let fetch = sqlx::query_as(self.fetch).persistent(false);
        let page: Vec<T> = answered(fetch.fetch_all(snapshot.connection())).await?;
        self.ended = page.is_empty();
        self.page = page.into();
        Ok(!self.ended)
    }

    /// The rest of the page.
    pub(super) fn page(&mut self) -> &mut VecDeque<T> {
        &mut self.page
    }

    /// The next row of the page.
    pub(super) fn head(&self) -> Option<&T> {
        self.page.front()
    }
}
