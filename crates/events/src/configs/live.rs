//! The index as this process knows it, kept current by `NOTIFY`, by looking every few seconds, and by whoever finds that it is
//! behind.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use sqlx::{PgConnection, PgPool};
use store::{ChannelWakeup, PgNotificationHub, Result, run_statement};
use tokio::time::sleep;

use super::ActionConfigIndex;
use super::stored::{ACTION_CONFIGS_CHANNEL, changes_since};
use crate::write::compute_on_pool;

/// How long a change may go unnoticed when its notification was lost; no event is matched against an index that is behind.
const CONFIG_POLL_INTERVAL: Duration = Duration::from_secs(5);
/// Changes that come together are taken in together.
const CHANGE_GATHER_INTERVAL: Duration = Duration::from_millis(20);

/// The index; clones share it.
#[derive(Debug, Clone, Default)]
pub struct LiveConfigIndex(Arc<RwLock<Arc<ActionConfigIndex>>>);

impl LiveConfigIndex {
    /// What is known now.
    pub fn current(&self) -> Arc<ActionConfigIndex> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes in what has changed.
    pub async fn refresh(&self, connection: &mut PgConnection) -> Result<Arc<ActionConfigIndex>> {
        let known = self.current();
        let changes = changes_since(connection, known.version).await?;
        if changes.version == known.version {
            return Ok(known);
        }
        // Patterns are compiled, and the index is built, where nobody waits for it.
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

    /// Keeps it current for ever; `notifications` must listen on [`ACTION_CONFIGS_CHANNEL`].
    pub async fn keep_current(self, pool: PgPool, notifications: PgNotificationHub) {
        let mut subscriber =
            notifications.subscribe_channel(ACTION_CONFIGS_CHANNEL, CONFIG_POLL_INTERVAL);
        // Nobody tells any more when the process ends.
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
