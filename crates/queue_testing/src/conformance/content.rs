//! What is sent is what is received.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::time::Instant;

use super::{PATIENCE, SECOND, fresh_name, message, next, nothing, queue, send};
use queue::fifo::{FifoEngine, FifoError, NewMessage};

pub(super) async fn everything_sent_is_received(engine: Arc<dyn FifoEngine>) {
    let queue = queue(&engine).await;
    let attributes = [("JobName", "integration"), ("Note", "значение \u{1f980}")];
    let attributes = attributes.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let sent = NewMessage {
        group: "template+test+block".to_owned(),
        deduplication: "run-1/block-1".to_owned(),
        body: "{\"block_id\": 1,\t\"text\": \"\u{1f980}\\u0000\"}\n".to_owned(),
        attributes: BTreeMap::from(attributes),
    };
    let answer = queue.send(sent.clone()).await.unwrap();
    let received = next(&queue, None).await;
    assert_eq!((&received.group, &received.deduplication), (&sent.group, &sent.deduplication));
    assert_eq!((&received.body, &received.attributes), (&sent.body, &sent.attributes));
    assert_eq!((&received.id, received.sequence), (&answer.id, answer.sequence));
    assert_eq!(received.receives, 1);
    queue.delete(&received.receipt).await.unwrap();
    nothing(&queue).await;
}

pub(super) async fn what_no_engine_takes_is_refused(engine: Arc<dyn FifoEngine>) {
    let queue = queue(&engine).await;
    for bad in [message("", "b"), message("with space", "b"), message("g", ""), message("g", "\0")] {
        let refused = queue.send(bad).await;
        assert!(matches!(refused, Err(FifoError::Invalid(_))), "{refused:?}");
    }
    for most in [0, 11] {
        let refused = queue.receive(most, SECOND, None).await;
        assert!(matches!(refused, Err(FifoError::Invalid(_))), "{refused:?}");
    }
    nothing(&queue).await;
}

pub(super) async fn a_queue_that_is_not_there_is_named(engine: Arc<dyn FifoEngine>) {
    let name = fresh_name();
    let missing = engine.open(&name).await.err();
    assert!(matches!(&missing, Some(FifoError::NoQueue(missing)) if *missing == name), "{missing:?}");
}

pub(super) async fn a_waiting_receiver_is_woken(engine: Arc<dyn FifoEngine>) {
    let queue = queue(&engine).await;
    nothing(&queue).await;
    let waiting = queue.clone();
    let receiver = tokio::spawn(async move { next(&waiting, None).await });
    // However the two race: it is received long before the wait ends.
    let sent = Instant::now();
    send(&queue, "g", "b").await;
    assert_eq!(receiver.await.unwrap().body, "b");
    assert!(sent.elapsed() < PATIENCE / 2, "{:?}", sent.elapsed());
}
