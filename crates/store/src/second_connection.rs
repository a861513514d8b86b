//! Finds, in debug builds, whoever waits for a second connection of a pool while holding one: as many of them as the pool
//! has connections wait for one another.

use std::future::Future;

use sqlx::PgPool;

#[cfg(debug_assertions)]
tokio::task_local! {
    /// What tells the pool apart from which this task has a connection.
    static HELD: usize;
}

/// Panics if this task has a connection of `pool` already.
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

/// Does `work`, for which a connection of `pool` is held.
#[cfg(debug_assertions)]
pub(crate) fn while_held<F: Future>(pool: &PgPool, work: F) -> impl Future<Output = F::Output> {
    HELD.scope(pool_identity(pool), work)
}

/// Does `work`, for which a connection of `pool` is held.
#[cfg(not(debug_assertions))]
pub(crate) fn while_held<F: Future>(_: &PgPool, work: F) -> impl Future<Output = F::Output> {
    work
}

/// Each pool has its own allocation of its options.
#[cfg(debug_assertions)]
fn pool_identity(pool: &PgPool) -> usize {
    std::sync::Arc::as_ptr(&pool.connect_options()) as usize
}
