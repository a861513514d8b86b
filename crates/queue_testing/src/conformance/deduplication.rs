//! Deduplication: a message sent twice is received once.

use std::sync::Arc;

use super::{assert_nothing_received, create_queue, new_message, receive_next, send_message};
use queue::fifo::{FifoEngine, NewFifoMessage};

fn repeated_message(body: &str) -> NewFifoMessage {
    NewFifoMessage { deduplication_id: "one".to_owned(), ..new_message("g", body) }
}

pub(super) async fn an_id_is_one_message(engine: Arc<dyn FifoEngine>) {
    let queue = create_queue(&engine).await;
    // Also concurrently, in another group and with another body: the first send counts.
    let senders: Vec<_> = (0..8)
        .map(|n: i32| {
            let (queue, group) = (queue.clone(), format!("g{}", n % 2));
            tokio::spawn(async move {
                queue
                    .send(NewFifoMessage { group, ..repeated_message(&n.to_string()) })
                    .await
                    .unwrap()
            })
        })
        .collect();
    let mut answers = Vec::new();
    for sender in senders {
        answers.push(sender.await.unwrap());
    }
    assert!(answers.windows(2).all(|pair| pair[0].id == pair[1].id), "{answers:?}");
    let received = receive_next(&queue, None).await;
    assert_eq!(received.id, answers[0].id);
    queue.delete(&received.receipt).await.unwrap();
    assert_nothing_received(&queue).await;
}

pub(super) async fn an_id_is_remembered_after_its_message_is_deleted(engine: Arc<dyn FifoEngine>) {
    let queue = create_queue(&engine).await;
    let first = queue.send(repeated_message("first")).await.unwrap();
    let received = receive_next(&queue, None).await;
    queue.delete(&received.receipt).await.unwrap();
    assert_eq!(queue.send(repeated_message("again")).await.unwrap().id, first.id);
    assert_nothing_received(&queue).await;
    send_message(&queue, "g", "another").await;
    assert_eq!(receive_next(&queue, None).await.body, "another");
}

pub(super) async fn ids_are_a_queues_own(engine: Arc<dyn FifoEngine>) {
    let (one, other) = (create_queue(&engine).await, create_queue(&engine).await);
    one.send(repeated_message("one")).await.unwrap();
    other.send(repeated_message("other")).await.unwrap();
    assert_eq!(receive_next(&one, None).await.body, "one");
    assert_eq!(receive_next(&other, None).await.body, "other");
}
