//! Two real runs of one integration never overlap.

use std::future::Future;
use std::time::Duration;

use sqlx::{Connection as _, PgPool};
use store::{DedicatedConnection, PgConnection, Result};
use tokio::sync::Semaphore;
use tokio::time::error::Elapsed;
use tokio::time::timeout;

use crate::RunError;

/// Waits until no other transaction runs `integration`, and keeps others out until this one ends.
pub async fn exclude_others_in_tx(connection: &mut PgConnection, integration: &str) -> Result<()> {
    sqlx::query(
        "SELECT pg_advisory_xact_lock(hashtextextended('reconcile/' || $1, 0)) -- exclude_other_runs",
    )
    .bind(integration)
    .execute(connection)
    .await?;
    Ok(())
}

/// How long a target that is not one transaction may take.
const MOST_TIME: Duration = Duration::from_secs(600);
/// Real runs of a process whose targets are not one transaction: each holds a connection meanwhile.
static RUNS: Semaphore = Semaphore::const_new(2);

/// Runs `work` while no other real run does so under the same name: for targets that are no transaction of ours, whose
/// steps must be safe to repeat. In a task of its own, which nobody cancels. Meanwhile a connection beside those of `pool`
/// is held, which `work` may use; two such runs go on at a time.
pub async fn excluding_others<T: Send + 'static>(
    pool: &PgPool,
    integration: &str,
    work: impl Future<Output = T> + Send + 'static,
) -> Result<T, RunError> {
    let (pool, integration) = (pool.clone(), integration.to_owned());
    let done = tokio::spawn(store::panics::contain_panic(async move {
        // It is never closed.
        let _place = RUNS.acquire().await.map_err(|_| store::Error::Abandoned)?;
        let apart = store::reserve_pool(&pool, "exclusive", 1);
        let done = work_excluding_others(&apart, &integration, work).await;
        store::close_pool(&apart).await;
        done
    }));
    Ok(done.await.map_err(|_| store::Error::Abandoned)??)
}

async fn work_excluding_others<T>(
    apart: &PgPool,
    integration: &str,
    work: impl Future<Output = T>,
) -> Result<T> {
    let mut connection = DedicatedConnection::acquire(apart, MOST_TIME).await?;
    let mut tx = timeout(MOST_TIME, connection.begin()).await.map_err(no_answer)??;
    // Closing the connection, when this returns, lets the others go on.
    timeout(MOST_TIME, exclude_others_in_tx(&mut tx, integration)).await.map_err(no_answer)??;
    Ok(work.await)
}

fn no_answer(_: Elapsed) -> store::Error {
    store::Error::WaitTimeout("another run of the same integration, or the database, takes too long")
}

/// Makes the transaction one that cannot write, whatever it tries: for dry runs.
pub async fn read_only_in_tx(connection: &mut PgConnection) -> Result<()> {
    sqlx::query("SET TRANSACTION READ ONLY -- dry_run").execute(connection).await?;
    Ok(())
}

/// Notes that an integration has been reconciled.
pub async fn note_reconciled_in_tx(
    connection: &mut PgConnection,
    integration: &str,
    owner: crate::Owner,
) -> Result<()> {
    sqlx::query(
        "INSERT INTO reconciled (integration, owner) VALUES ($1, $2)
         ON CONFLICT (integration) DO UPDATE SET owner = excluded.owner, reconciled_at = now() -- note_reconciled",
    )
    .bind(integration)
    .bind(owner.name())
    .execute(connection)
    .await?;
    Ok(())
}
