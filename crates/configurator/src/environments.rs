//! Which environments have instances: before one has, no integration answers there, and its queues are not polled.
//!
//! Cost: one statement for all environments every ten seconds, and when a run begins, until all are in use.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use sqlx::PgPool;
use store::PgNotificationHub;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::run::RUNS_CHANNEL;
use crate::template::Env;

/// How often the table is read, should a notification have been lost.
const POLL_INTERVAL: Duration = Duration::from_secs(10);

/// The environments that are in use; clones share them.
#[derive(Clone, Default)]
pub struct EnvironmentsInUse(Arc<watch::Sender<BTreeSet<Env>>>);

impl EnvironmentsInUse {
    /// Waits until there is an instance in the environment, and for ever where [`watch`](Self::watch) does not run.
    pub(crate) async fn wait_for(&self, env: Env) {
        // An error says that the sender is gone, and this holds it.
        let _ = self.0.subscribe().wait_for(|in_use| in_use.contains(&env)).await;
    }

    /// Reads the table until all environments are in use; ends after `stop`.
    pub(crate) async fn watch(self, pool: PgPool, notifications: PgNotificationHub, stop: CancellationToken) {
        let mut notified = notifications.subscribe_channel(RUNS_CHANNEL, POLL_INTERVAL);
        loop {
            // What cannot be read now is read at the next time.
            let in_use = read_environments(&pool).await.unwrap_or_default();
            self.0.send_if_modified(|known| {
                let before = known.len();
                known.extend(in_use);
                known.len() > before
            });
            if self.0.borrow().len() == Env::ALL.len() {
                return;
            }
            tokio::select! {
                () = stop.cancelled() => return,
                _ = notified.next() => {}
            }
        }
    }
}

async fn read_environments(pool: &PgPool) -> store::Result<BTreeSet<Env>> {
    let names: Vec<String> = store::run_statement(pool, "environments_in_use", move |connection| {
        Box::pin(async move {
            let in_use = sqlx::query_scalar(
                "-- environments_in_use
                 SELECT env FROM unnest($1::text[]) AS env
                  WHERE EXISTS (SELECT FROM configurator_instances i WHERE i.env = env.env)",
            );
            Ok(in_use.bind(Env::ALL.map(|env| env.name().to_owned())).fetch_all(connection).await?)
        })
    })
    .await?;
    Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
}
