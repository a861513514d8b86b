//! Deleting what is older than the retention: the only way in which rows go.

use std::sync::Arc;
use std::time::Duration;

use sqlx::{PgConnection, PgPool};
use store::{LONG_OPERATION_TIMEOUT, Lease, PgOperation, Result};

/// Least retention.
pub const MIN_RETENTION: Duration = Duration::from_secs(24 * 3600);
/// Interval between passes.
const FORGET_INTERVAL: Duration = Duration::from_secs(600);
/// Rows deleted per transaction.
const MAX_ROWS_PER_TRANSACTION: u64 = 5000;

/// Deletes entries older than `retention`, until the lease is lost.
pub async fn run_retention(pool: PgPool, retention: Duration, lease: Arc<Lease>) {
    while !lease.is_lost() {
        if let Err(error) = forget_entries(&pool, retention).await {
            tracing::warn!(%error, code = "UNAVAILABLE", "old audit rows not deleted; trying again later");
        }
        tokio::time::sleep(FORGET_INTERVAL).await;
    }
}

/// Deletes entries older than `retention`, at least [`MIN_RETENTION`]; transactions of at most 5,000
/// rows. Returns their number.
pub async fn forget_entries(pool: &PgPool, retention: Duration) -> Result<u64> {
    let (seconds, mut forgotten) = (retention.max(MIN_RETENTION).as_secs_f64(), 0);
    loop {
        let operation = PgOperation::named("forget_audit").with_timeout(LONG_OPERATION_TIMEOUT);
        let gone = store::transaction(operation, seconds)
            .run(pool, |connection, seconds| Box::pin(forget_in_tx(connection, *seconds)))
            .await?;
        forgotten += gone;
        if gone < MAX_ROWS_PER_TRANSACTION {
            return Ok(forgotten);
        }
    }
}

/// The trigger `audit_is_kept` refuses other deletions than those of a transaction that says so.
async fn forget_in_tx(connection: &mut PgConnection, seconds: f64) -> Result<u64> {
    store::statement(
        "permit_forgetting_audit",
        "SELECT set_config('order_service.forgets_audit', 'on', true)",
    )
    .execute(&mut *connection)
    .await?;
    store::statement("forget_audit", FORGET_SQL)
        .bind(seconds)
        .bind(MAX_ROWS_PER_TRANSACTION.cast_signed())
        .execute(connection)
        .await
}

/// Age is measured at most one month past the newest entry that is a day old: a clock set ahead by
/// mistake must not expire everything, whatever is written under it meanwhile.
const FORGET_SQL: &str = "DELETE FROM audit WHERE audit_id IN (
    SELECT audit_id FROM audit
    WHERE at < least(now(), (SELECT max(at) + interval '1 month' FROM audit WHERE at < now() - interval '1 day'))
               - make_interval(secs => $1)
    ORDER BY at LIMIT $2
)";
