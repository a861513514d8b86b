//! The environments that have instances. Before the first instance of an environment, no
//! integration answers there, and its queues are not polled.
//!
//! - Cost: one statement for all environments every ten seconds and per notification on the channel
//!   of runs, until all served environments are in use.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use sqlx::PgPool;
use store::PgNotificationHub;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::run::RUNS_CHANNEL;
use crate::template::Env;

/// Interval between reads of the table, in case a notification is lost.
const POLL_INTERVAL: Duration = Duration::from_secs(10);

/// The set of environments in use; clones share it.
#[derive(Clone, Default)]
pub struct EnvironmentsInUse(Arc<watch::Sender<BTreeSet<Env>>>);

impl EnvironmentsInUse {
    /// Waits for the first instance in the environment. Waits for ever if
    /// [`watch`](Self::watch) does not run.
    pub(crate) async fn wait_for(&self, env: Env) {
        // An error would mean a dropped sender, and `self` owns it.
        let _ = self.0.subscribe().wait_for(|in_use| in_use.contains(&env)).await;
    }

    /// Polls the table until all of `served` are in use, or `stop` is cancelled.
    pub(crate) async fn watch(
        self,
        served: Vec<Env>,
        pool: PgPool,
        notifications: PgNotificationHub,
        stop: CancellationToken,
    ) {
        let mut wakeups = notifications.subscribe_channel(RUNS_CHANNEL, POLL_INTERVAL);
        let reading = async {
            loop {
                // After a failure the next poll reads it.
                let in_use = read_environments(&pool, &served).await.unwrap_or_default();
                let are_all = in_use.len() == served.len();
                self.0.send_if_modified(|known| {
                    let before = known.len();
                    known.extend(in_use);
                    known.len() > before
                });
                if are_all {
                    return;
                }
                wakeups.next().await;
            }
        };
        stop.run_until_cancelled(reading).await;
    }
}

/// Those of `envs` that have an instance.
async fn read_environments(pool: &PgPool, envs: &[Env]) -> store::Result<BTreeSet<Env>> {
    let env_names: Vec<&str> = envs.iter().map(|env| env.name()).collect();
    let names: Vec<String> = store::statement(
        "environments_in_use",
        "SELECT env FROM unnest($1::text[]) AS env
         WHERE EXISTS (SELECT FROM configurator_instances i WHERE i.env = env.env)",
    )
    .bind(env_names)
    .fetch_values(pool)
    .await?;
    Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
}
