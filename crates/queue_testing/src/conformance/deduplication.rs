//! What is sent twice is there once.

use std::sync::Arc;

use super::{message, next, nothing, queue, send};
use queue::fifo::{FifoEngine, NewMessage};

fn repeated(body: &str) -> NewMessage {
    NewMessage { deduplication: "one".to_owned(), ..message("g", body) }
}

pub(super) async fn an_id_is_one_message(engine: Arc<dyn FifoEngine>) {
    let queue = queue(&engine).await;
    // Also at the same moment, also in another group, also with another body: what came first counts.
    let senders: Vec<_> = (0..8)
        .map(|n: i32| {
            let (queue, group) = (queue.clone(), format!("g{}", n % 2));
            tokio::spawn(async move {
                queue.send(NewMessage { group, ..repeated(&n.to_string()) }).await.unwrap()
            })
        })
        .collect();
    let mut answers = Vec::new();
    for sender in senders {
        answers.push(sender.await.unwrap());
    }
    assert!(answers.windows(2).all(|pair| pair[0].id == pair[1].id), "{answers:?}");
    let received = next(&queue, None).await;
    assert_eq!(received.id, answers[0].id);
    queue.delete(&received.receipt).await.unwrap();
    nothing(&queue).await;
}

pub(super) async fn an_id_is_remembered_after_its_message_is_deleted(engine: Arc<dyn FifoEngine>) {
    let queue = queue(&engine).await;
    let first = queue.send(repeated("first")).await.unwrap();
    let received = next(&queue, None).await;
    queue.delete(&received.receipt).await.unwrap();
    assert_eq!(queue.send(repeated("again")).await.unwrap().id, first.id);
    nothing(&queue).await;
    send(&queue, "g", "another").await;
    assert_eq!(next(&queue, None).await.body, "another");
}

pub(super) async fn ids_are_a_queues_own(engine: Arc<dyn FifoEngine>) {
    let (one, other) = (queue(&engine).await, queue(&engine).await);
    one.send(repeated("one")).await.unwrap();
    other.send(repeated("other")).await.unwrap();
    assert_eq!(next(&one, None).await.body, "one");
    assert_eq!(next(&other, None).await.body, "other");
}
