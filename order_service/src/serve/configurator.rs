//! Configurator in this process: for the routes, for the role, and for the integration `platform`.

use std::sync::Arc;
use std::time::Duration;

use configurator::sdk::{IntegrationOptions, IntegrationWorker, PgIntegrationStore};
use configurator::{Configurator, ConfiguratorSettings};
use sqlx::PgPool;
use store::PgNotificationHub;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::queues::FifoQueueSet;
use crate::platform_integration;
use crate::reconcilers::bundle::TypeUsageFinder;
use crate::settings::QueueSettings;

/// Configurator with the engines of `queues`.
pub fn build_configurator(
    settings: &QueueSettings,
    pool: &PgPool,
    notifications: &PgNotificationHub,
    queues: &FifoQueueSet,
) -> Configurator {
    Configurator {
        pool: pool.clone(),
        notifications: notifications.clone(),
        settings: ConfiguratorSettings {
            block_timeout: settings.block_timeout,
            answers: settings.answer_queue.clone(),
            retention: settings.run_retention,
        },
        engines: queues.engines.clone(),
        senders: queues.senders.clone(),
        environments: Default::default(),
    }
}

/// Starts the role; it ends after `stop`. Work in progress then has `grace` to finish.
pub async fn start_configurator_role(
    configurator: &Configurator,
    queues: &FifoQueueSet,
    usage: TypeUsageFinder,
    grace: Duration,
    stop: &CancellationToken,
) -> anyhow::Result<JoinSet<()>> {
    if queues.creates_queues {
        for (env, engine) in &configurator.engines {
            configurator::queues::ensure_answer_queue(
                engine.as_ref(),
                &configurator.settings.answers,
                *env,
            )
            .await?;
            configurator::queues::ensure_integration_queue(
                engine.as_ref(),
                platform_integration::PLATFORM_QUEUE,
                *env,
            )
            .await?;
        }
    }
    let mut running = configurator.start(grace, stop);
    let pool = &configurator.pool;
    let handlers = platform_integration::platform_handlers(pool, Arc::new(usage));
    let options = IntegrationOptions {
        shutdown_timeout: grace,
        answer_queue: configurator.settings.answers.clone(),
        ..IntegrationOptions::default()
    };
    for (env, engine) in &configurator.engines {
        let memory = Arc::new(PgIntegrationStore::new(pool.clone()));
        let host =
            IntegrationWorker::new(engine.clone()).with_store(memory).with_options(options.clone());
        let (configurator, handlers, env, stop) =
            (configurator.clone(), handlers.clone(), *env, stop.clone());
        running.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => return,
                () = configurator.wait_until_env_used(env) => {}
            }
            host.run(handlers, platform_integration::PLATFORM_QUEUE, env, stop).await;
        });
    }
    Ok(running)
}
