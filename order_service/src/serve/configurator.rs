//! The configurator in this process: what its routes ask, its role, and the integration `platform`.

use std::sync::Arc;
use std::time::Duration;

use configurator::sdk::{Host, InPostgres, Terms};
use configurator::{Configurator, Settings};
use sqlx::PgPool;
use store::Notifications;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::queues::FifoQueues;
use crate::bundle::InUse;
use crate::integration;
use crate::settings::QueueSettings;

/// The configurator of a process.
pub fn of(
    settings: &QueueSettings,
    pool: &PgPool,
    notifications: &Notifications,
    queues: &FifoQueues,
) -> Configurator {
    Configurator {
        pool: pool.clone(),
        notifications: notifications.clone(),
        settings: Settings {
            block_timeout: settings.block_timeout,
            answers: settings.answers.clone(),
            retention: settings.run_retention,
        },
        engines: queues.engines.clone(),
        senders: queues.senders.clone(),
        environments: Default::default(),
    }
}

/// Starts the role; it ends after `stop`. What is in work then may take `grace`.
pub async fn start(
    configurator: &Configurator,
    queues: &FifoQueues,
    usage: InUse,
    grace: Duration,
    stop: &CancellationToken,
) -> anyhow::Result<JoinSet<()>> {
    if queues.makes_queues {
        for (env, engine) in &configurator.engines {
            configurator::queues::ensure_answers(engine.as_ref(), &configurator.settings.answers, *env)
                .await?;
            configurator::queues::ensure(engine.as_ref(), integration::QUEUE, *env).await?;
        }
    }
    let mut running = configurator.start(grace, stop);
    let pool = &configurator.pool;
    let handlers = integration::handlers(pool, Arc::new(usage));
    let terms = Terms { grace, answers: configurator.settings.answers.clone(), ..Terms::default() };
    for (env, engine) in &configurator.engines {
        let memory = Arc::new(InPostgres::new(pool.clone()));
        let host = Host::new(engine.clone()).remembering(memory).working(terms.clone());
        let (configurator, handlers, env, stop) =
            (configurator.clone(), handlers.clone(), *env, stop.clone());
        running.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => return,
                () = configurator.in_use(env) => {}
            }
            host.run(handlers, integration::QUEUE, env, stop).await;
        });
    }
    Ok(running)
}
