//! Keeping a process's types current: a notification for the moment, a look every few seconds as the promise.

use std::time::Duration;

use sqlx::PgPool;
use store::{Notifications, Notify};
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio::time::timeout;

use super::{TYPES_CHANNEL, Types, load};

/// How long a change may go unnoticed when its notification was lost.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// The wait after a failed look.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// Keeps `types` as the control database has them, for ever; `notifications` must listen on [`TYPES_CHANNEL`]. While
/// the database does not answer, what is known stays in force.
pub async fn keep_current(pool: PgPool, notifications: Notifications, types: Types) {
    // Subscribed before the first look: no change falls between them.
    let mut heard = notifications.subscribe();
    loop {
        match load(&pool).await {
            Ok(catalogue) => {
                if *types.now() != catalogue {
                    tracing::info!(types = catalogue.len(), "types of the ledger have changed");
                    types.set(catalogue);
                }
                let _ = timeout(LOOK_EVERY, told(&mut heard)).await;
            }
            Err(error) => {
                tracing::warn!(%error, code = "UNAVAILABLE", "types of the ledger could not be read");
                tokio::time::sleep(RETRY_AFTER).await;
            }
        }
    }
}

/// Returns when types have changed, or may have.
async fn told(heard: &mut Receiver<Notify>) {
    loop {
        match heard.recv().await {
            Ok(Notify::Heard { channel, .. }) if channel != TYPES_CHANNEL => {}
            Ok(_) | Err(RecvError::Lagged(_)) => return,
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }
}
