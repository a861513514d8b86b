//! A connection of its own, for a task that works on one database all the time, and what is true for as long as it lasts.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sqlx::PgPool;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::pool;

/// A pool of one connection: made when first used, made again when lost. One server process that does the same thing again
/// and again has its plans and caches at hand, which halves the time of small statements; a pool hands its connections out
/// in turn, and each is cold. It is closed with the pool it was made from. Clones share it.
///
/// A database that is put back to an older copy ends its connections. So what was learnt from it holds for a
/// [`ConnectionGeneration`], the life of one connection, and is learnt anew in the next.
#[derive(Debug, Clone)]
pub struct OwnConnection {
    pool: PgPool,
    connection_count: Arc<AtomicU64>,
    /// Closes the connection.
    _close_guard: Arc<DropGuard>,
}

/// The life of one connection.
#[derive(Debug, Clone)]
pub struct ConnectionGeneration {
    connection_count: Arc<AtomicU64>,
    number: u64,
}

impl OwnConnection {
    /// A connection to the database of `pool`.
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

    /// The pool of this one connection: who holds it must not ask for another.
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// The life of the connection that was made last. Exact for who holds it.
    pub fn generation(&self) -> ConnectionGeneration {
        ConnectionGeneration {
            connection_count: self.connection_count.clone(),
            number: self.connection_count.load(Ordering::Acquire),
        }
    }
}

impl ConnectionGeneration {
    /// Whether another connection has been made since.
    pub fn is_over(&self) -> bool {
        self.connection_count.load(Ordering::Acquire) != self.number
    }

    /// Tells generations of one [`OwnConnection`] apart.
    pub fn number(&self) -> u64 {
        self.number
    }
}
