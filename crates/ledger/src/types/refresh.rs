//! Keeping a process's types current: a notification for the moment, a look every few seconds as the promise.

use std::time::Duration;

use sqlx::PgPool;
use store::PgNotificationHub;

use super::{LedgerTypeRegistry, TYPES_CHANNEL, load_types};

/// How long a change may go unnoticed when its notification was lost.
const TYPES_POLL_INTERVAL: Duration = Duration::from_secs(5);
/// The wait after a failed look.
const TYPES_RETRY_INTERVAL: Duration = Duration::from_millis(500);

/// Keeps `types` as the control database has them, for ever; `notifications` must listen on [`TYPES_CHANNEL`]. While
/// the database does not answer, what is known stays in force.
pub async fn keep_types_current(
    pool: PgPool,
    notifications: PgNotificationHub,
    types: LedgerTypeRegistry,
) {
    // Subscribed before the first look: no change falls between them.
    let mut changes = notifications.subscribe_channel(TYPES_CHANNEL, TYPES_POLL_INTERVAL);
    loop {
        match load_types(&pool).await {
            Ok(catalogue) => {
                if *types.current() != catalogue {
                    tracing::info!(types = catalogue.len(), "types of the ledger have changed");
                    types.set(catalogue);
                }
                changes.next().await;
            }
            Err(error) => {
                tracing::warn!(%error, code = "UNAVAILABLE", "types of the ledger could not be read");
                tokio::time::sleep(TYPES_RETRY_INTERVAL).await;
            }
        }
    }
}
