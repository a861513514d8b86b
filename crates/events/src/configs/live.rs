//! Cached config index of this process, invalidated by `NOTIFY`, by polling, and by writers whose
//! version check fails.
//!
//! - Promise: no event is matched against an outdated index, because each write checks the version.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use sqlx::{PgConnection, PgPool};
use store::{ChannelWakeup, PgNotificationHub, Result, run_statement};
use tokio::time::sleep;

use super::ActionConfigIndex;
use super::stored::{ACTION_CONFIGS_CHANNEL, changes_since};
use crate::compute_pool::compute_on_pool;

/// Poll interval: bounds staleness after a lost notification. Writers detect a stale index anyway.
const CONFIG_POLL_INTERVAL: Duration = Duration::from_secs(5);
/// Delay after a notification, to coalesce changes into one refresh.
const CHANGE_GATHER_INTERVAL: Duration = Duration::from_millis(20);

/// Shared cached index; clones share it.
#[derive(Debug, Clone, Default)]
pub struct LiveConfigIndex(Arc<RwLock<Arc<ActionConfigIndex>>>);

impl LiveConfigIndex {
    /// The cached index; may be stale.
    pub fn current(&self) -> Arc<ActionConfigIndex> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Loads the changes since the cached version.
    pub async fn refresh(&self, connection: &mut PgConnection) -> Result<Arc<ActionConfigIndex>> {
        let known = self.current();
        let changes = changes_since(connection, known.version).await?;
        if changes.version == known.version {
            return Ok(known);
        }
        // Compiling patterns and building the index runs on the thread pool.
        let next = Arc::new(
            compute_on_pool(move || known.with_changes(changes.version, changes.compile())).await?,
        );
        let mut index = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if index.version < next.version {
            *index = next.clone();
        }
        Ok(next)
    }

    /// [`LiveConfigIndex::refresh`] on a connection of the pool.
    pub async fn refresh_from_pool(&self, pool: &PgPool) -> Result<()> {
        let live = self.clone();
        run_statement(pool, "refresh_action_configs", move |connection| {
            let live = live.clone();
            Box::pin(async move { live.refresh(connection).await.map(drop) })
        })
        .await
    }

    /// Refreshes until the pool closes; `notifications` must listen on [`ACTION_CONFIGS_CHANNEL`].
    pub async fn keep_current(self, pool: PgPool, notifications: PgNotificationHub) {
        let mut subscriber =
            notifications.subscribe_channel(ACTION_CONFIGS_CHANNEL, CONFIG_POLL_INTERVAL);
        // No more notifications arrive once the process shuts down.
        while !pool.is_closed() {
            if let ChannelWakeup::Notified(_) = subscriber.next().await {
                sleep(CHANGE_GATHER_INTERVAL).await;
            }
            if let Err(error) = self.refresh_from_pool(&pool).await {
                tracing::warn!(%error, code = "UNAVAILABLE", "action configs not read");
            }
        }
    }
}
