//! Refresh of the in-process type registry: by notification, with polling as the fallback.

use std::time::Duration;

use sqlx::PgPool;
use store::PgNotificationHub;

use super::{LedgerTypeRegistry, TYPES_CHANNEL, load_types};

/// Poll interval: upper bound on staleness when a notification is lost.
const TYPES_POLL_INTERVAL: Duration = Duration::from_secs(5);
/// Backoff after a failed read.
const TYPES_RETRY_INTERVAL: Duration = Duration::from_millis(500);

/// Keeps `types` equal to the control database; never returns. `notifications` must listen on
/// [`TYPES_CHANNEL`]. While the database is unavailable, the cached types stay in force.
pub async fn keep_types_current(
    pool: PgPool,
    notifications: PgNotificationHub,
    types: LedgerTypeRegistry,
) {
    // Subscribed before the first read, so that no change is missed in between.
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
