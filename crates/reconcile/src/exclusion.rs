//! Two real runs of one integration never overlap.

use std::future::Future;

use sqlx::{Connection as _, PgPool};
use store::{PgConnection, Result};

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
const MOST_TIME: &str = "600000";

/// Runs `work` while no other real run does so under the same name: for targets that are no transaction of ours, whose
/// steps must be safe to repeat. In a task of its own, which nobody cancels, on a connection of its own, which is given
/// up with it.
pub async fn excluding_others<T: Send + 'static>(
    pool: &PgPool,
    integration: &str,
    work: impl Future<Output = T> + Send + 'static,
) -> Result<T, RunError> {
    let (pool, integration) = (pool.clone(), integration.to_owned());
    let done = tokio::spawn(async move {
        let mut connection = pool.acquire().await?.detach();
        let mut tx = connection.begin().await?;
        sqlx::query("SELECT set_config('idle_in_transaction_session_timeout', $1, true) -- be_patient")
            .bind(MOST_TIME)
            .execute(&mut *tx)
            .await?;
        exclude_others_in_tx(&mut tx, &integration).await?;
        let done = work.await;
        tx.rollback().await?;
        // A connection that is not closed properly is closed by the server.
        let _ = connection.close().await;
        Ok::<T, store::Error>(done)
    });
    Ok(done.await.map_err(|_| store::Error::Abandoned)??)
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
