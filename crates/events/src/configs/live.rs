//! The index as this process knows it, kept current by `NOTIFY`, by looking every few seconds, and by whoever finds that it is
//! behind.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use sqlx::{PgConnection, PgPool};
use store::{Notifications, Result, Told, run};
use tokio::time::sleep;

use super::Index;
use super::stored::{CHANNEL, changes_since};
use crate::write::compute;

/// How long a change may go unnoticed when its notification was lost; no event is matched against an index that is behind.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Changes that come together are taken in together.
const GATHER: Duration = Duration::from_millis(20);

/// The index; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Live(Arc<RwLock<Arc<Index>>>);

impl Live {
    /// What is known now.
    pub fn now(&self) -> Arc<Index> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes in what has changed.
    pub async fn refresh(&self, connection: &mut PgConnection) -> Result<Arc<Index>> {
        let known = self.now();
        let changes = changes_since(connection, known.version).await?;
        if changes.version == known.version {
            return Ok(known);
        }
        // Patterns are compiled, and the index is built, where nobody waits for it.
        let next = Arc::new(compute(move || known.with(changes.version, changes.compiled())).await?);
        let mut index = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if index.version < next.version {
            *index = next.clone();
        }
        Ok(next)
    }

    /// [`Live::refresh`] on a connection of the pool.
    pub async fn refresh_from(&self, pool: &PgPool) -> Result<()> {
        let live = self.clone();
        run(pool, "refresh_action_configs", move |connection| {
            let live = live.clone();
            Box::pin(async move { live.refresh(connection).await.map(drop) })
        })
        .await
    }

    /// Keeps it current for ever; `notifications` must listen on [`CHANNEL`].
    pub async fn keep_current(self, pool: PgPool, notifications: Notifications) {
        let mut heard = notifications.listener(CHANNEL, LOOK_EVERY);
        // Nobody tells any more when the process ends.
        while !pool.is_closed() {
            if let Told::Said(_) = heard.next().await {
                sleep(GATHER).await;
            }
            if let Err(error) = self.refresh_from(&pool).await {
                tracing::warn!(%error, code = "UNAVAILABLE", "action configs not read");
            }
        }
    }
}
