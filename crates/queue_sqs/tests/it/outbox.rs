//! Hazard: relaying the outbox to SQS during lost replies, throttling, errors and an outage. No
//! message may be lost, duplicated or reordered within its group.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use queue::fifo::{
    FifoEngine, FifoError, FifoOutbox, FifoQueueOptions, FifoRefusalHandler, FifoTxSender as _,
    NewFifoMessage, OUTBOX_CHANNEL, RefusedMessage, run_outbox_relay,
};
use store::testing::{create_control_database, run_test};
use store::{PgNotificationHub, PgPool};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::emulator::{SqsEmulator, sqs_engine_at};
use super::faulty_endpoint::{EndpointFault, FaultyEndpoint};

const QUEUE: &str = "effects.fifo";
const PLACE: &str = "test";

/// Refused messages by deduplication id; the handler's first call fails.
#[derive(Default)]
struct Told(Mutex<Vec<(String, FifoError)>>);

impl FifoRefusalHandler for Told {
    fn handle_refused<'a>(
        &'a self,
        refused: &'a RefusedMessage,
    ) -> BoxFuture<'a, store::Result<()>> {
        let mut told = self.0.lock().unwrap();
        told.push((refused.deduplication_id.clone(), refused.error.clone()));
        let first = told.len() == 1;
        Box::pin(std::future::ready(if first { Err(store::Error::Abandoned) } else { Ok(()) }))
    }
}

/// Starts a relay that sends through the endpoint, like one process.
async fn process(pool: &PgPool, endpoint: &FaultyEndpoint, stop: &CancellationToken) -> Arc<Told> {
    let engine: Arc<dyn FifoEngine> = Arc::new(sqs_engine_at(endpoint.port).await);
    let (notifications, _) = PgNotificationHub::start(pool.clone(), vec![OUTBOX_CHANNEL]);
    let engines = HashMap::from([(PLACE.to_owned(), engine)]);
    let told = Arc::new(Told::default());
    tokio::spawn(run_outbox_relay(
        pool.clone(),
        engines,
        notifications,
        told.clone(),
        stop.clone(),
    ));
    told
}

async fn ensure(emulator: &SqsEmulator) {
    let terms =
        FifoQueueOptions { visibility_timeout: Duration::from_secs(30), dead_letters: None };
    emulator.engine().await.ensure_queue(QUEUE, terms).await.unwrap();
}

/// Commits one message per group in one transaction.
async fn commit(pool: &PgPool, n: usize, groups: usize) {
    let messages: Vec<NewFifoMessage> = (0..groups)
        .map(|group| NewFifoMessage {
            group: format!("g{group}"),
            deduplication_id: format!("g{group}/{n}"),
            body: format!("{n}"),
            attributes: BTreeMap::new(),
        })
        .collect();
    let mut tx = pool.begin().await.unwrap();
    FifoOutbox { engine_name: PLACE.to_owned() }
        .send_in_tx(&mut tx, QUEUE, &messages)
        .await
        .unwrap();
    tx.commit().await.unwrap();
}

/// Number of outbox rows, of rows with an error, and the maximum of attempts.
async fn waiting(pool: &PgPool) -> (i64, i64, i32) {
    sqlx::query_as(
        "SELECT count(*), count(last_error), coalesce(max(attempts), 0) FROM fifo_outbox",
    )
    .fetch_one(pool)
    .await
    .unwrap()
}

async fn until_empty(pool: &PgPool) {
    let by_then = Instant::now() + Duration::from_secs(120);
    while waiting(pool).await.0 > 0 {
        assert!(Instant::now() < by_then, "{:?}", waiting(pool).await);
        sleep(Duration::from_millis(50)).await;
    }
}

/// Received bodies by group, in delivery order.
async fn arrived(emulator: &SqsEmulator, count: usize) -> BTreeMap<String, Vec<String>> {
    let queue = emulator.engine().await.open_queue(QUEUE).await.unwrap();
    let (mut arrived, mut seen): (BTreeMap<String, Vec<String>>, _) = (BTreeMap::new(), 0);
    loop {
        // After the expected messages, one more receive detects surplus ones.
        let wait = Duration::from_secs(if seen < count { 20 } else { 1 });
        let received = queue.receive(10, wait, None).await.unwrap();
        if received.is_empty() {
            return arrived;
        }
        for message in received {
            queue.delete(&message.receipt).await.unwrap();
            arrived.entry(message.group).or_default().push(message.body);
            seen += 1;
        }
    }
}

fn expected(messages: usize, groups: usize) -> BTreeMap<String, Vec<String>> {
    let bodies: Vec<String> = (0..messages).map(|n| n.to_string()).collect();
    (0..groups).map(|group| (format!("g{group}"), bodies.clone())).collect()
}

/// Every second call fails, and one in the middle hangs.
fn troubled(call: usize) -> EndpointFault {
    match call {
        17 => EndpointFault::Hung,
        call => match call % 8 {
            1 => EndpointFault::ReplyLost,
            3 => EndpointFault::Throttled,
            5 => EndpointFault::Failed,
            7 => EndpointFault::Cut,
            _ => EndpointFault::None,
        },
    }
}

#[test]
fn each_message_arrives_once_and_in_order_whatever_happens_to_the_calls() {
    run_test(async {
        let (pool, emulator) = (create_control_database().await, SqsEmulator::start().await);
        ensure(&emulator).await;
        let endpoint = FaultyEndpoint::start(emulator.port, troubled);
        let stop = CancellationToken::new();
        process(&pool, &endpoint, &stop).await;
        process(&pool, &endpoint, &stop).await;
        for n in 0..4 {
            commit(&pool, n, 10).await;
        }
        until_empty(&pool).await;
        stop.cancel();
        for fault in [
            EndpointFault::ReplyLost,
            EndpointFault::Throttled,
            EndpointFault::Failed,
            EndpointFault::Cut,
            EndpointFault::Hung,
        ] {
            assert!(endpoint.count(fault) > 0, "{fault:?} never happened: {:?}", endpoint.injected);
        }
        assert_eq!(arrived(&emulator, 40).await, expected(4, 10), "{:?}", endpoint.injected);
    });
}

/// More lost replies than the SDK's retries; every call is executed.
fn mute(call: usize) -> EndpointFault {
    if call < 12 { EndpointFault::ReplyLost } else { EndpointFault::None }
}

#[test]
fn what_was_sent_and_never_confirmed_is_the_same_message_when_it_is_sent_again() {
    run_test(async {
        let (pool, emulator) = (create_control_database().await, SqsEmulator::start().await);
        ensure(&emulator).await;
        let endpoint = FaultyEndpoint::start(emulator.port, mute);
        let stop = CancellationToken::new();
        process(&pool, &endpoint, &stop).await;
        for n in 0..2 {
            commit(&pool, n, 2).await;
        }
        until_empty(&pool).await;
        stop.cancel();
        assert_eq!(endpoint.count(EndpointFault::ReplyLost), 12, "{:?}", endpoint.injected);
        assert_eq!(arrived(&emulator, 4).await, expected(2, 2));
    });
}

#[test]
fn an_endpoint_that_is_away_gets_everything_when_it_is_back() {
    run_test(async {
        let (pool, emulator) = (create_control_database().await, SqsEmulator::start().await);
        ensure(&emulator).await;
        let mut endpoint = FaultyEndpoint::away(emulator.port, |_| EndpointFault::None);
        let stop = CancellationToken::new();
        process(&pool, &endpoint, &stop).await;
        for n in 0..3 {
            commit(&pool, n, 5).await;
        }
        // Only the oldest message of each group is tried.
        let by_then = Instant::now() + Duration::from_secs(60);
        loop {
            let (rows, failed, attempts) = waiting(&pool).await;
            assert_eq!(rows, 15, "nothing is given up");
            if failed == 5 && attempts > 1 {
                break;
            }
            assert!(Instant::now() < by_then, "{rows} {failed} {attempts}");
            sleep(Duration::from_millis(50)).await;
        }
        endpoint.comes();
        until_empty(&pool).await;
        stop.cancel();
        assert_eq!(arrived(&emulator, 15).await, expected(3, 5));
    });
}

#[test]
fn of_a_message_that_the_queue_takes_never_whoever_it_is_about_is_told_until_that_succeeds() {
    run_test(async {
        let (pool, emulator) = (create_control_database().await, SqsEmulator::start().await);
        ensure(&emulator).await;
        let endpoint = FaultyEndpoint::start(emulator.port, |call| match call {
            0 | 1 => EndpointFault::TooLarge,
            _ => EndpointFault::None,
        });
        let stop = CancellationToken::new();
        let told = process(&pool, &endpoint, &stop).await;
        commit(&pool, 0, 1).await;
        commit(&pool, 1, 1).await;
        until_empty(&pool).await;
        stop.cancel();
        let told = told.0.lock().unwrap().clone();
        assert_eq!(told.len(), 2, "{told:?}");
        for (deduplication, error) in told {
            assert_eq!(deduplication, "g0/0");
            assert!(
                matches!(&error, FifoError::TooLarge(said) if said.contains("must be shorter than")),
                "{error:?}"
            );
        }
        assert_eq!(arrived(&emulator, 1).await["g0"], ["1"], "what comes after it is sent");
    });
}
