//! Mutual exclusion of real runs of a reconciler, across processes.
//!
//! - Cost: one advisory lock per run; for targets outside a transaction also one connection.
//! - Promise: Postgres releases the lock when the transaction or the connection ends.

use std::future::Future;
use std::time::Duration;

use sqlx::{Connection as _, PgPool};
use store::{DedicatedConnection, PgConnection, Result};
use tokio::sync::Semaphore;
use tokio::time::error::Elapsed;
use tokio::time::timeout;

use crate::error::ReconcileError;
use crate::owner::ObjectOwner;

/// Acquires the transaction-level advisory lock of `reconciler`: waits for other runs, and blocks
/// them until this transaction ends.
pub async fn exclude_other_runs_in_tx(
    connection: &mut PgConnection,
    reconciler: &str,
) -> Result<()> {
    store::statement(
        "exclude_other_runs",
        "SELECT pg_advisory_xact_lock(hashtextextended('reconcile/' || $1, 0))",
    )
    .bind(reconciler)
    .execute(connection)
    .await?;
    Ok(())
}

/// Statement and idle-in-transaction timeout of the lock's connection: a longer run loses the lock.
const EXCLUSIVE_RUN_TIMEOUT: Duration = Duration::from_secs(600);
/// Maximum duration of a run's work: it ends before the lock's connection does.
pub const MAX_EXCLUSIVE_WORK: Duration = Duration::from_secs(540);
/// Limit per process for runs outside a transaction: each holds a connection.
static EXCLUSIVE_RUN_PERMITS: Semaphore = Semaphore::const_new(2);

/// Runs `work` under the advisory lock of `reconciler`, for targets that are not one transaction
/// and whose steps must be idempotent. Runs in a spawned task: a cancelled caller does not cancel
/// `work`. Holds a connection beside those of `pool`, so that `work` can use `pool`; at most two
/// such runs at a time. `work` is stopped with an error after `work_timeout`, at most
/// [`MAX_EXCLUSIVE_WORK`]: it may not outlive its lock.
pub async fn run_exclusively<T: Send + 'static>(
    pool: &PgPool,
    reconciler: &str,
    work_timeout: Duration,
    work: impl Future<Output = T> + Send + 'static,
) -> Result<T, ReconcileError> {
    let (pool, reconciler) = (pool.clone(), reconciler.to_owned());
    let work_timeout = work_timeout.min(MAX_EXCLUSIVE_WORK);
    let done = tokio::spawn(store::panics::contain_panic(async move {
        // The semaphore is never closed.
        let _permit = EXCLUSIVE_RUN_PERMITS.acquire().await.map_err(|_| store::Error::Abandoned)?;
        let reserved_pool = store::reserve_pool(&pool, "exclusive", 1);
        // The time begins when the lock is held.
        let work = async move { timeout(work_timeout, work).await };
        let done = run_excluding_others(&reserved_pool, &reconciler, work).await;
        store::close_pool(&reserved_pool).await;
        done
    }));
    Ok(done.await.map_err(|_| store::Error::Abandoned)??)
}

async fn run_excluding_others<T>(
    reserved_pool: &PgPool,
    reconciler: &str,
    work: impl Future<Output = std::result::Result<T, Elapsed>>,
) -> Result<T> {
    let mut connection = DedicatedConnection::acquire(reserved_pool, EXCLUSIVE_RUN_TIMEOUT).await?;
    let mut tx =
        timeout(EXCLUSIVE_RUN_TIMEOUT, connection.begin()).await.map_err(timeout_error)??;
    // The lock is released when this function returns and the connection is closed.
    timeout(EXCLUSIVE_RUN_TIMEOUT, exclude_other_runs_in_tx(&mut tx, reconciler))
        .await
        .map_err(timeout_error)??;
    work.await.map_err(|_| {
        store::Error::WaitTimeout(
            "the run was stopped at its time limit, below that of its lock; its steps can be repeated",
        )
    })
}

fn timeout_error(_: Elapsed) -> store::Error {
    store::Error::WaitTimeout(
        "another run of the same integration, or the database, takes too long",
    )
}

/// Makes the transaction read-only, for dry runs.
pub async fn set_read_only_in_tx(connection: &mut PgConnection) -> Result<()> {
    store::statement("dry_run", "SET TRANSACTION READ ONLY").execute(connection).await?;
    Ok(())
}

/// Upserts the reconciler's row in `reconciled`: owner and time of the last run.
pub async fn record_reconciled_in_tx(
    connection: &mut PgConnection,
    reconciler: &str,
    owner: ObjectOwner,
) -> Result<()> {
    store::statement(
        "note_reconciled",
        "INSERT INTO reconciled (integration, owner) VALUES ($1, $2)
         ON CONFLICT (integration) DO UPDATE SET owner = excluded.owner, reconciled_at = now()",
    )
    .bind(reconciler)
    .bind(owner.name())
    .execute(connection)
    .await?;
    Ok(())
}
