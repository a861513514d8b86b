//! Message content: a received message equals the sent one.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::time::Instant;

use super::{
    ONE_SECOND, RECEIVE_TIMEOUT, assert_nothing_received, create_queue, fresh_queue_name,
    new_message, receive_next, send_message,
};
use queue::fifo::{FifoEngine, FifoError, NewFifoMessage};

pub(super) async fn everything_sent_is_received(engine: Arc<dyn FifoEngine>) {
    let queue = create_queue(&engine).await;
    let attributes = [("JobName", "integration"), ("Note", "значение \u{1f980}")];
    let attributes = attributes.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let sent = NewFifoMessage {
        group: "template+test+block".to_owned(),
        deduplication_id: "run-1/block-1".to_owned(),
        body: "{\"block_id\": 1,\t\"text\": \"\u{1f980}\\u0000\"}\n".to_owned(),
        attributes: BTreeMap::from(attributes),
    };
    let answer = queue.send(sent.clone()).await.unwrap();
    let received = receive_next(&queue, None).await;
    assert_eq!(
        (&received.group, &received.deduplication_id),
        (&sent.group, &sent.deduplication_id)
    );
    assert_eq!((&received.body, &received.attributes), (&sent.body, &sent.attributes));
    assert_eq!((&received.id, received.sequence), (&answer.id, answer.sequence));
    assert_eq!(received.receive_count, 1);
    queue.delete(&received.receipt).await.unwrap();
    assert_nothing_received(&queue).await;
}

pub(super) async fn what_no_engine_takes_is_refused(engine: Arc<dyn FifoEngine>) {
    let queue = create_queue(&engine).await;
    for bad in [
        new_message("", "b"),
        new_message("with space", "b"),
        new_message("g", ""),
        new_message("g", "\0"),
    ] {
        let refused = queue.send(bad).await;
        assert!(matches!(refused, Err(FifoError::Invalid(_))), "{refused:?}");
    }
    for most in [0, 11] {
        let refused = queue.receive(most, ONE_SECOND, None).await;
        assert!(matches!(refused, Err(FifoError::Invalid(_))), "{refused:?}");
    }
    assert_nothing_received(&queue).await;
}

pub(super) async fn a_queue_that_is_not_there_is_named(engine: Arc<dyn FifoEngine>) {
    let name = fresh_queue_name();
    let missing = engine.open_queue(&name).await.err();
    assert!(
        matches!(&missing, Some(FifoError::NoQueue(missing)) if *missing == name),
        "{missing:?}"
    );
}

pub(super) async fn a_waiting_receiver_is_woken(engine: Arc<dyn FifoEngine>) {
    let queue = create_queue(&engine).await;
    assert_nothing_received(&queue).await;
    let waiting = queue.clone();
    let receiver = tokio::spawn(async move { receive_next(&waiting, None).await });
    // Independent of the race: the message arrives long before the wait ends.
    let sent = Instant::now();
    send_message(&queue, "g", "b").await;
    assert_eq!(receiver.await.unwrap().body, "b");
    assert!(sent.elapsed() < RECEIVE_TIMEOUT / 2, "{:?}", sent.elapsed());
}
