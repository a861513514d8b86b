//! Hazard: a consumer crashes, hangs, panics or stops with messages in work; a poison
//! message blocks its group.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use queue::fifo::{
    CUT_FROM_ATTRIBUTE, FifoConsumer, FifoConsumerOptions, FifoEngine, FifoMessage,
    FifoQueueOptions, FifoQueuePair, MAX_MESSAGE_BYTES, MessageOutcome, NewFifoMessage,
    REASON_ATTRIBUTE, consume_messages,
};
use store::testing::{create_control_database, run_counting_panics, run_test};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use super::engine;

const TERMS: FifoConsumerOptions = FifoConsumerOptions {
    concurrency: 4,
    visibility_timeout: Duration::from_millis(600),
    shutdown_timeout: Duration::from_millis(50),
};

async fn queues(engine: &Arc<dyn FifoEngine>) -> FifoQueuePair {
    let terms =
        FifoQueueOptions { visibility_timeout: Duration::from_secs(30), dead_letters: None };
    for name in ["q.fifo", "q-dead.fifo"] {
        engine.ensure_queue(name, terms.clone()).await.unwrap();
    }
    let (queue, dead_letters) = (
        engine.open_queue("q.fifo").await.unwrap(),
        engine.open_queue("q-dead.fifo").await.unwrap(),
    );
    FifoQueuePair { queue, dead_letters }
}

async fn send(queues: &FifoQueuePair, group: &str, body: &str) {
    let (group, body) = (group.to_owned(), body.to_owned());
    let deduplication = format!("{group}/{body}");
    let message = NewFifoMessage {
        group,
        deduplication_id: deduplication,
        body,
        attributes: BTreeMap::new(),
    };
    queues.queue.send(message).await.unwrap();
}

/// Reports each message and returns the outcome that the body names.
struct Obedient {
    given: mpsc::UnboundedSender<(String, u32)>,
    go_on: Semaphore,
    in_work: AtomicUsize,
}

impl Obedient {
    fn new() -> (Arc<Self>, mpsc::UnboundedReceiver<(String, u32)>) {
        let (given, told) = mpsc::unbounded_channel();
        (Arc::new(Self { given, go_on: Semaphore::new(0), in_work: AtomicUsize::new(0) }), told)
    }
}

/// Decrements the in-work counter on drop, so also after cancellation.
struct InWork<'a>(&'a AtomicUsize);

impl Drop for InWork<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl FifoConsumer for Obedient {
    async fn consume(&self, message: &FifoMessage) -> MessageOutcome {
        self.in_work.fetch_add(1, Ordering::SeqCst);
        let _in_work = InWork(&self.in_work);
        self.given.send((message.body.clone(), message.receive_count)).unwrap();
        match message.body.as_str() {
            "poison" => panic!("poison"),
            "dead" => MessageOutcome::Dead("never\0 works".to_owned()),
            "twice" if message.receive_count == 1 => {
                MessageOutcome::RetryAfter(Duration::from_millis(100))
            }
            "slow" => {
                self.go_on.acquire().await.unwrap().forget();
                MessageOutcome::Done
            }
            "hang" => std::future::pending().await,
            large if large.len() == MAX_MESSAGE_BYTES => {
                MessageOutcome::Dead("nobody can read it".to_owned())
            }
            _ => MessageOutcome::Done,
        }
    }
}

#[test]
fn failures_go_again_or_to_the_dead_letters_and_the_group_goes_on() {
    let panics = run_counting_panics(async {
        let queues = queues(&engine(&create_control_database().await)).await;
        for body in ["dead", "twice", "poison", "last"] {
            send(&queues, "g", body).await;
        }
        let ((consumer, mut told), stop) = (Obedient::new(), CancellationToken::new());
        let consuming =
            tokio::spawn(consume_messages(queues.clone(), consumer, TERMS, stop.clone()));
        let mut given = Vec::new();
        while given.last() != Some(&("last".to_owned(), 1)) {
            given.push(told.recv().await.unwrap());
        }
        let expected = [("dead", 1), ("twice", 1), ("twice", 2), ("poison", 1), ("last", 1)];
        assert_eq!(given, expected.map(|(body, receives)| (body.to_owned(), receives)));
        let reasons = [("dead", "never  works"), ("poison", "LOGIC_ERROR: the handler panicked")];
        for (body, reason) in reasons {
            let letter = queues
                .dead_letters
                .receive(1, Duration::from_secs(10), None)
                .await
                .unwrap()
                .remove(0);
            assert_eq!(
                (letter.body.as_str(), letter.attributes[REASON_ATTRIBUTE].as_str()),
                (body, reason)
            );
            queues.dead_letters.delete(&letter.receipt).await.unwrap();
        }
        stop.cancel();
        consuming.await.unwrap();
    });
    assert_eq!(panics, 1, "the poison's");
}

#[test]
fn the_largest_message_can_be_given_up_and_its_group_goes_on() {
    run_test(async {
        let queues = queues(&engine(&create_control_database().await)).await;
        let (group, body) = ("g".to_owned(), "b".repeat(MAX_MESSAGE_BYTES));
        let deduplication = "large".to_owned();
        let message = NewFifoMessage {
            group,
            deduplication_id: deduplication,
            body,
            attributes: BTreeMap::new(),
        };
        queues.queue.send(message).await.unwrap();
        send(&queues, "g", "last").await;
        let ((consumer, mut told), stop) = (Obedient::new(), CancellationToken::new());
        let consuming =
            tokio::spawn(consume_messages(queues.clone(), consumer, TERMS, stop.clone()));
        assert_eq!(told.recv().await.unwrap().0.len(), MAX_MESSAGE_BYTES);
        assert_eq!(told.recv().await.unwrap(), ("last".to_owned(), 1));
        let letter =
            queues.dead_letters.receive(1, Duration::from_secs(10), None).await.unwrap().remove(0);
        assert_eq!(letter.attributes[REASON_ATTRIBUTE], "nobody can read it");
        assert_eq!(letter.attributes[CUT_FROM_ATTRIBUTE], MAX_MESSAGE_BYTES.to_string());
        assert!(letter.body.len() > MAX_MESSAGE_BYTES - 100, "{}", letter.body.len());
        stop.cancel();
        consuming.await.unwrap();
    });
}

#[test]
fn a_slow_handler_keeps_its_message() {
    run_test(async {
        let queues = queues(&engine(&create_control_database().await)).await;
        send(&queues, "g", "slow").await;
        send(&queues, "g", "last").await;
        let ((consumer, mut told), stop) = (Obedient::new(), CancellationToken::new());
        let consuming: Vec<_> = (0..2)
            .map(|_| {
                tokio::spawn(consume_messages(
                    queues.clone(),
                    consumer.clone(),
                    TERMS,
                    stop.clone(),
                ))
            })
            .collect();
        assert_eq!(told.recv().await.unwrap(), ("slow".to_owned(), 1));
        // No other receiver gets it during three visibility timeouts.
        assert!(
            queues.queue.receive(10, 3 * TERMS.visibility_timeout, None).await.unwrap().is_empty()
        );
        consumer.go_on.add_permits(1);
        assert_eq!(told.recv().await.unwrap(), ("last".to_owned(), 1));
        stop.cancel();
        for consuming in consuming {
            consuming.await.unwrap();
        }
    });
}

#[test]
fn a_consumer_whose_message_is_taken_over_lets_go_and_changes_nothing() {
    run_test(async {
        let pool = create_control_database().await;
        let queues = queues(&engine(&pool)).await;
        send(&queues, "g", "hang").await;
        let ((consumer, mut told), stop) = (Obedient::new(), CancellationToken::new());
        let consuming =
            tokio::spawn(consume_messages(queues.clone(), consumer.clone(), TERMS, stop.clone()));
        told.recv().await.unwrap();
        // Simulates a pause longer than the visibility timeout. The consumer may extend before the
        // other receive takes the message; then try again.
        let taken = loop {
            sqlx::query("UPDATE fifo_messages SET visible_at = now() - interval '1 hour'")
                .execute(&pool)
                .await
                .unwrap();
            let taken = queues.queue.receive(1, Duration::from_secs(10), None).await.unwrap();
            if !taken.is_empty() {
                break taken;
            }
        };
        while consumer.in_work.load(Ordering::SeqCst) > 0 {
            tokio::task::yield_now().await;
        }
        queues.queue.delete(&taken[0].receipt).await.unwrap();
        stop.cancel();
        consuming.await.unwrap();
    });
}

#[test]
fn what_does_not_end_in_time_is_given_back_at_the_stop() {
    run_test(async {
        let queues = queues(&engine(&create_control_database().await)).await;
        send(&queues, "g", "hang").await;
        let ((consumer, mut told), stop) = (Obedient::new(), CancellationToken::new());
        let terms = FifoConsumerOptions { visibility_timeout: Duration::from_secs(3600), ..TERMS };
        let consuming =
            tokio::spawn(consume_messages(queues.clone(), consumer, terms, stop.clone()));
        told.recv().await.unwrap();
        stop.cancel();
        consuming.await.unwrap();
        let given_back = queues.queue.receive(1, Duration::from_secs(10), None).await.unwrap();
        assert_eq!(given_back[0].receive_count, 2);
    });
}

#[test]
fn a_dead_consumers_messages_are_consumed_by_another() {
    run_test(async {
        let queues = queues(&engine(&create_control_database().await)).await;
        for group in 0..6 {
            send(&queues, &format!("g{group}"), "slow").await;
        }
        let (consumer, mut told) = Obedient::new();
        let dying = tokio::spawn(consume_messages(
            queues.clone(),
            consumer,
            TERMS,
            CancellationToken::new(),
        ));
        for _ in 0..TERMS.concurrency {
            told.recv().await.unwrap();
        }
        // Aborting the consumer aborts its tasks: visibility is no longer extended.
        dying.abort();
        let _ = dying.await;
        let ((living, mut told), stop) = (Obedient::new(), CancellationToken::new());
        let consuming =
            tokio::spawn(consume_messages(queues.clone(), living.clone(), TERMS, stop.clone()));
        let mut receives = Vec::new();
        while receives.len() < 6 {
            receives.push(told.recv().await.unwrap().1);
            living.go_on.add_permits(1);
        }
        receives.sort_unstable();
        assert_eq!(receives, [1, 1, 2, 2, 2, 2]);
        stop.cancel();
        consuming.await.unwrap();
    });
}
