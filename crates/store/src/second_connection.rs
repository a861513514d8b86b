//! Check against pool deadlocks: detects a task that waits for a second connection of a pool while it
//! holds one. As many such tasks as the pool has connections deadlock.
//!
//! Active in tests and debug builds; otherwise an atomic load per operation.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sqlx::PgPool;

static IS_ACTIVE: AtomicBool = AtomicBool::new(cfg!(debug_assertions));

tokio::task_local! {
    /// Identity of the pool of which this task holds a connection; 0 if the check is not active.
    static HELD: usize;
}

/// Activates the check for this process.
pub(crate) fn activate_check() {
    IS_ACTIVE.store(true, Ordering::Relaxed);
}

/// If the check is active, panics if this task already holds a connection of `pool`.
pub(crate) fn check_not_held(pool: &PgPool, name: &'static str) {
    let identity = pool_identity(pool);
    let is_held = identity != 0 && HELD.try_with(|held| *held == identity).unwrap_or(false);
    if is_held {
        tracing::error!(
            name,
            code = "LOGIC_ERROR",
            "waits for a second connection of a pool while holding one"
        );
    }
    assert!(!is_held, "{name} waits for a second connection of a pool while holding one");
}

/// Runs `work` while a connection of `pool` is held.
pub(crate) fn while_held<F: Future>(pool: &PgPool, work: F) -> impl Future<Output = F::Output> {
    HELD.scope(pool_identity(pool), work)
}

/// Address of the pool's options, which each pool allocates separately; 0 if the check is not active.
fn pool_identity(pool: &PgPool) -> usize {
    match IS_ACTIVE.load(Ordering::Relaxed) {
        true => Arc::as_ptr(&pool.connect_options()) as usize,
        false => 0,
    }
}
