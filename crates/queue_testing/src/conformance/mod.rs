//! Conformance suite of FIFO engines, after Amazon's documentation of SQS. Each case of
//! [`CONFORMANCE_CASES`] creates separate queues.
//!
//! Times are whole seconds, the smallest unit of SQS. The number of messages per
//! receive is not assumed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a failing engine panics

mod content;
mod dead_letters;
mod deduplication;
mod groups;
mod receipts;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use uuid::Uuid;

use queue::fifo::{
    DeadLetterPolicy, FifoEngine, FifoMessage, FifoQueue, FifoQueueOptions, NewFifoMessage,
};

/// A test case; panics if the engine fails it.
pub type ConformanceCase = fn(Arc<dyn FifoEngine>) -> BoxFuture<'static, ()>;

macro_rules! cases {
    ($($room:ident::$case:ident),+ $(,)?) => {
        &[$((stringify!($case), |engine| Box::pin($room::$case(engine)))),+]
    };
}

/// All cases, with their names.
pub const CONFORMANCE_CASES: &[(&str, ConformanceCase)] = cases![
    content::everything_sent_is_received,
    content::what_no_engine_takes_is_refused,
    content::a_queue_that_is_not_there_is_named,
    content::a_waiting_receiver_is_woken,
    groups::a_group_comes_in_the_order_it_was_sent,
    groups::the_next_waits_while_an_earlier_one_is_in_flight,
    groups::groups_do_not_wait_for_one_another,
    groups::many_receivers_never_overlap_within_a_group,
    receipts::a_message_comes_again_after_its_time_out,
    receipts::an_expired_receipt_is_refused,
    receipts::visibility_can_be_extended_and_ended,
    receipts::deleting_twice_is_deleting_once,
    deduplication::an_id_is_one_message,
    deduplication::an_id_is_remembered_after_its_message_is_deleted,
    deduplication::ids_are_a_queues_own,
    dead_letters::what_is_received_too_often_is_a_dead_letter,
];

/// Runs all cases; panics with the names of those that the engine fails.
pub async fn assert_engine_conforms(engine: Arc<dyn FifoEngine>) {
    // Each case creates separate queues, so all run concurrently.
    let running: Vec<_> = CONFORMANCE_CASES
        .iter()
        .map(|(name, case)| (name, tokio::spawn(case(engine.clone()))))
        .collect();
    let mut failed = Vec::new();
    for (name, case) in running {
        if case.await.is_err() {
            failed.push(*name);
        }
    }
    assert!(failed.is_empty(), "{failed:?}");
    assert!(CONFORMANCE_CASES.len() >= 16, "{}", CONFORMANCE_CASES.len());
}

const ONE_SECOND: Duration = Duration::from_secs(1);
/// Longer than any expected receive takes.
const RECEIVE_TIMEOUT: Duration = Duration::from_secs(15);

fn fresh_queue_name() -> String {
    format!("conformance-{}.fifo", Uuid::new_v4().simple())
}

/// Creates a queue with a visibility timeout of 30 seconds.
async fn create_queue(engine: &Arc<dyn FifoEngine>) -> Arc<dyn FifoQueue> {
    create_queue_with(engine, None).await
}

async fn create_queue_with(
    engine: &Arc<dyn FifoEngine>,
    dead_letters: Option<DeadLetterPolicy>,
) -> Arc<dyn FifoQueue> {
    let name = fresh_queue_name();
    let options = FifoQueueOptions { visibility_timeout: Duration::from_secs(30), dead_letters };
    engine.ensure_queue(&name, options.clone()).await.unwrap();
    // A second `ensure_queue` finds the existing queue.
    engine.ensure_queue(&name, options).await.unwrap();
    engine.open_queue(&name).await.unwrap()
}

fn new_message(group: &str, body: &str) -> NewFifoMessage {
    NewFifoMessage {
        group: group.to_owned(),
        deduplication_id: format!("{group}/{body}"),
        body: body.to_owned(),
        attributes: BTreeMap::new(),
    }
}

async fn send_message(queue: &Arc<dyn FifoQueue>, group: &str, body: &str) {
    queue.send(new_message(group, body)).await.unwrap();
}

/// Receives the next message; panics if none arrives.
async fn receive_next(queue: &Arc<dyn FifoQueue>, visibility: Option<Duration>) -> FifoMessage {
    queue.receive(1, RECEIVE_TIMEOUT, visibility).await.unwrap().pop().expect("a message")
}

/// Panics if a message can be received now.
async fn assert_nothing_received(queue: &Arc<dyn FifoQueue>) {
    let received = queue.receive(10, ONE_SECOND, None).await.unwrap();
    assert!(received.is_empty(), "{received:?}");
}
