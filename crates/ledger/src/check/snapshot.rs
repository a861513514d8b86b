//! Snapshot of a shard, and cursors that read its rows page by page.

use std::collections::VecDeque;
use std::future::Future;
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::postgres::PgRow;
use sqlx::{FromRow, PgConnection, PgPool, Postgres};
use store::Result;
use tokio::time::timeout;

/// A read-only snapshot transaction. Its connection is closed
/// on drop, so a cancelled check leaves no open transaction.
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

/// 30 min: a cursor's first page may sort a whole table. 10 min: bounds how long a stopped process
/// keeps the snapshot.
///
/// The lock precedes the snapshot. Partitions are looked up in the current catalog, not in the
/// snapshot: a partition dropped after the snapshot would be missing from the events, while its
/// sums would not be in the snapshot's closing balances yet.
const BEGIN_SNAPSHOT_SQL: &str = "-- check_snapshot
BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
SET LOCAL statement_timeout = '30min';
SET LOCAL idle_in_transaction_session_timeout = '10min';
SET LOCAL cursor_tuple_fraction = 1;
LOCK TABLE ONLY events IN ACCESS SHARE MODE";

/// Slightly longer than `statement_timeout`: the server is unreachable.
const SNAPSHOT_QUERY_TIMEOUT: Duration = Duration::from_secs(30 * 60 + 10);

async fn with_query_timeout<T>(query: impl Future<Output = sqlx::Result<T>>) -> Result<T> {
    match timeout(SNAPSHOT_QUERY_TIMEOUT, query).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into()).into()),
    }
}

/// Statements of a cursor.
pub(super) struct SnapshotCursor {
    pub(super) declare_sql: &'static str,
    /// Fetches one page.
    pub(super) fetch_sql: &'static str,
}

/// Rows of a cursor, in its order.
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

    /// Fetches the next page if the current one is empty; returns whether it fetched rows.
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

    /// Remaining rows of the current page.
    pub(super) fn page(&mut self) -> &mut VecDeque<T> {
        &mut self.page
    }

    /// Next row of the current page.
    pub(super) fn first_row(&self) -> Option<&T> {
        self.page.front()
    }
}
