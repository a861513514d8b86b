//! Two real runs of one integration never overlap.

use store::{PgConnection, Result};

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
