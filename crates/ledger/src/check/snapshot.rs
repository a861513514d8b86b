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
pub(super) struct ShardSnapshot(PoolConnection<Postgres>);

impl ShardSnapshot {
    pub(super) async fn take(pool: &PgPool) -> Result<Self> {
        let mut connection = pool.acquire().await?;
        connection.close_on_drop();
        with_query_timeout(sqlx::raw_sql(BEGIN_SNAPSHOT_SQL).execute(&mut *connection)).await?;
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
const BEGIN_SNAPSHOT_SQL: &str = "-- check_snapshot
BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
SET LOCAL statement_timeout = '30min';
SET LOCAL idle_in_transaction_session_timeout = '10min';
SET LOCAL cursor_tuple_fraction = 1;
LOCK TABLE ONLY events IN ACCESS SHARE MODE";

/// A server that has not answered by then is not there: a little more than its own limit.
const SNAPSHOT_QUERY_TIMEOUT: Duration = Duration::from_secs(30 * 60 + 10);

async fn with_query_timeout<T>(query: impl Future<Output = sqlx::Result<T>>) -> Result<T> {
    let silent = || sqlx::Error::Io(std::io::ErrorKind::TimedOut.into());
    Ok(timeout(SNAPSHOT_QUERY_TIMEOUT, query).await.unwrap_or_else(|_| Err(silent()))?)
}

/// A cursor's statements.
pub(super) struct SnapshotCursor {
    pub(super) declare_sql: &'static str,
    /// Fetches one page.
    pub(super) fetch_sql: &'static str,
}

/// What a cursor yields, in its order.
pub(super) struct SnapshotCursorRows<T> {
    fetch_sql: &'static str,
    page: VecDeque<T>,
    is_finished: bool,
}

impl<T: for<'r> FromRow<'r, PgRow> + Send + Unpin> SnapshotCursorRows<T> {
    pub(super) async fn open(snapshot: &mut ShardSnapshot, cursor: SnapshotCursor) -> Result<Self> {
        with_query_timeout(sqlx::raw_sql(cursor.declare_sql).execute(snapshot.connection()))
            .await?;
        Ok(Self { fetch_sql: cursor.fetch_sql, page: VecDeque::new(), is_finished: false })
    }

    /// Fetches the next page if there is none; whether it did.
    pub(super) async fn fetch_page(&mut self, snapshot: &mut ShardSnapshot) -> Result<bool> {
        if self.is_finished || !self.page.is_empty() {
            return Ok(false);
        }
        let fetch = sqlx::query_as(self.fetch_sql).persistent(false);
        let page: Vec<T> = with_query_timeout(fetch.fetch_all(snapshot.connection())).await?;
        self.is_finished = page.is_empty();
        self.page = page.into();
        Ok(!self.is_finished)
    }

    /// The rest of the page.
    pub(super) fn page(&mut self) -> &mut VecDeque<T> {
        &mut self.page
    }

    /// The next row of the page.
    pub(super) fn first_row(&self) -> Option<&T> {
        self.page.front()
    }
}
