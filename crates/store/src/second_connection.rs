//! Debug check against pool deadlocks: detects a task that waits for a second connection of a pool
//! while it holds one. As many such tasks as the pool has connections deadlock.

use std::future::Future;

use sqlx::PgPool;

#[cfg(debug_assertions)]
tokio::task_local! {
    /// Identity of the pool of which this task holds a connection.
    static HELD: usize;
}

/// Panics if this task already holds a connection of `pool`.
#[inline]
pub(crate) fn check_not_held(pool: &PgPool, name: &'static str) {
    #[cfg(debug_assertions)]
    if HELD.try_with(|held| *held == pool_identity(pool)).unwrap_or(false) {
        tracing::error!(
            name,
            code = "LOGIC_ERROR",
            "waits for a second connection of a pool while holding one"
        );
        debug_assert!(false, "{name} waits for a second connection of a pool while holding one");
    }
    #[cfg(not(debug_assertions))]
    let _ = (pool, name);
}

/// Runs `work` while a connection of `pool` is held.
#[cfg(debug_assertions)]
pub(crate) fn while_held<F: Future>(pool: &PgPool, work: F) -> impl Future<Output = F::Output> {
    HELD.scope(pool_identity(pool), work)
}

/// Runs `work` while a connection of `pool` is held.
#[cfg(not(debug_assertions))]
pub(crate) fn while_held<F: Future>(_: &PgPool, work: F) -> impl Future<Output = F::Output> {
    work
}

/// Address of the pool's options, which each pool allocates separately.
#[cfg(debug_assertions)]
fn pool_identity(pool: &PgPool) -> usize {
    std::sync::Arc::as_ptr(&pool.connect_options()) as usize
}
