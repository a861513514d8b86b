//! Hazard: ticks work on one FIFO engine and are lost or duplicated on the other. Both run the same
//! suite.

use std::collections::HashMap;
use std::sync::Arc;

use futures::future::BoxFuture;
use queue::fifo::{
    FifoEngine, FifoOutbox, FifoRefusalHandler, OUTBOX_CHANNEL, RefusedMessage, run_outbox_relay,
};
use store::PgNotificationHub;
use store::testing::{create_control_database, run_test};
use tasks::{CANCELLED_CHANNEL, TaskStore, schedule};
use tokio_util::sync::CancellationToken;

use super::engine_suite::each_tick_is_done_once;
use super::harness::World;
use crate::emulator::SqsEmulator;

/// Tasks whose queues are on SQS, with an outbox relay until the token is cancelled.
async fn world_on_sqs(engine: Arc<dyn FifoEngine>, stop: &CancellationToken) -> World {
    let pool = create_control_database().await;
    let channels = vec![OUTBOX_CHANNEL, schedule::SCHEDULES_CHANNEL, CANCELLED_CHANNEL];
    let (notifications, _) = PgNotificationHub::start(pool.clone(), channels);
    let queues = tasks::ensure_task_queues(engine.as_ref()).await.unwrap();
    let place = "default".to_owned();
    let engines = HashMap::from([(place.clone(), engine)]);
    let world = World::of(pool, notifications, queues, Arc::new(FifoOutbox { engine_name: place }));
    let (pool, notifications) = (world.pool.clone(), world.notifications.clone());
    let refusals = Arc::new(Refused(world.tasks.clone()));
    tokio::spawn(run_outbox_relay(pool, engines, notifications, refusals, stop.clone()));
    world
}

/// Fails the tasks of rejected messages.
struct Refused(TaskStore);

impl FifoRefusalHandler for Refused {
    fn handle_refused<'a>(
        &'a self,
        refused: &'a RefusedMessage,
    ) -> BoxFuture<'a, store::Result<()>> {
        Box::pin(async move {
            self.0
                .fail_refused_task(&refused.deduplication_id, &refused.error.to_string())
                .await
                .map(drop)
        })
    }
}

#[test]
fn each_tick_is_done_once_on_sqs() {
    run_test(async {
        let (emulator, stop) = (SqsEmulator::start().await, CancellationToken::new());
        let engine = Arc::new(emulator.engine().await);
        each_tick_is_done_once(world_on_sqs(engine, &stop).await, stop).await;
    });
}
