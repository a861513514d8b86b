//! A dedicated connection for a task that uses one database continuously, and the lifetime of
//! facts learnt on it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::future::BoxFuture;
use sqlx::{PgConnection, PgPool};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{PgOperation, Result, pool, run_statement};

/// A pool of one connection, which connects on first use and reconnects when lost. One backend that
/// repeats the same statements keeps its plans and caches warm, which halves the time of small
/// statements; a pool rotates its connections, and each is cold. It is closed with the pool it was
/// opened from. Clones share it.
///
/// Restoring a database from a backup ends its connections. Cached facts about the database are
/// therefore valid for one [`ConnectionGeneration`], the lifetime of one connection.
#[derive(Debug, Clone)]
pub struct OwnConnection {
    pool: PgPool,
    connection_count: Arc<AtomicU64>,
    /// Closes the pool when the last clone is dropped.
    _close_guard: Arc<DropGuard>,
}

/// Lifetime of one connection.
#[derive(Debug, Clone)]
pub struct ConnectionGeneration {
    connection_count: Arc<AtomicU64>,
    number: u64,
}

impl OwnConnection {
    /// Opens a dedicated connection to the database of `pool`.
    pub fn open_beside(pool: &PgPool) -> Self {
        let connection_count = Arc::new(AtomicU64::new(0));
        let own = pool::open_pool_beside(pool, "own", 1, Vec::new(), connection_count.clone());
        let dropped = CancellationToken::new();
        let (closing, gone) = (own.clone(), dropped.clone());
        tokio::spawn(async move {
            gone.cancelled().await;
            closing.close().await;
        });
        Self { pool: own, connection_count, _close_guard: Arc::new(dropped.drop_guard()) }
    }

    /// Pool of this one connection: a holder must not acquire a second one.
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// Generation of the latest connection. Exact while the caller holds the connection.
    pub fn generation(&self) -> ConnectionGeneration {
        ConnectionGeneration {
            connection_count: self.connection_count.clone(),
            number: self.connection_count.load(Ordering::Acquire),
        }
    }
}

impl ConnectionGeneration {
    /// Whether a newer connection was opened since.
    pub fn is_over(&self) -> bool {
        self.connection_count.load(Ordering::Acquire) != self.number
    }

    /// Runs `work` like [`run_statement`], but only on the connection of this generation: `None` if a
    /// newer one was opened. `pool` must be that of the [`OwnConnection`].
    pub async fn run_statement<T, F>(
        &self,
        pool: &PgPool,
        operation: impl Into<PgOperation>,
        work: F,
    ) -> Result<Option<T>>
    where
        T: Send + 'static,
        F: for<'c> Fn(&'c mut PgConnection) -> BoxFuture<'c, Result<T>> + Send + Sync + 'static,
    {
        let generation = self.clone();
        run_statement(pool, operation, move |connection| {
            // Exact: the attempt holds the connection.
            if generation.is_over() {
                return Box::pin(std::future::ready(Ok(None)));
            }
            let done = work(connection);
            Box::pin(async move { Ok(Some(done.await?)) })
        })
        .await
    }

    /// Number that distinguishes the generations of one [`OwnConnection`].
    pub fn number(&self) -> u64 {
        self.number
    }
}
