//! Keeping a process's types current: a notification for the moment, a look every few seconds as the promise.

use std::time::Duration;

use sqlx::PgPool;
use store::Notifications;

use super::{TYPES_CHANNEL, Types, load};

/// How long a change may go unnoticed when its notification was lost.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// The wait after a failed look.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// Keeps `types` as the control database has them, for ever; `notifications` must listen on [`TYPES_CHANNEL`]. While
/// the database does not answer, what is known stays in force.
pub async fn keep_current(pool: PgPool, notifications: Notifications, types: Types) {
    // Subscribed before the first look: no change falls between them.
    let mut heard = notifications.listener(TYPES_CHANNEL, LOOK_EVERY);
    loop {
        match load(&pool).await {
            Ok(catalogue) => {
                if *types.now() != catalogue {
                    tracing::info!(types = catalogue.len(), "types of the ledger have changed");
                    types.set(catalogue);
                }
                heard.next().await;
            }
            Err(error) => {
                tracing::warn!(%error, code = "UNAVAILABLE", "types of the ledger could not be read");
                tokio::time::sleep(RETRY_AFTER).await;
            }
        }
    }
}
