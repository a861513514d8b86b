//! Dead letters: an unprocessable message does not block its group forever.

use std::sync::Arc;
use std::time::Duration;

use super::{assert_nothing_received, create_queue, create_queue_with, receive_next, send_message};
use queue::fifo::{DeadLetterPolicy, FifoEngine};

pub(super) async fn what_is_received_too_often_is_a_dead_letter(engine: Arc<dyn FifoEngine>) {
    let dead = create_queue(&engine).await;
    let dead_letters = DeadLetterPolicy { queue: dead.name().to_owned(), max_receives: 2 };
    let queue = create_queue_with(&engine, Some(dead_letters)).await;
    send_message(&queue, "g", "poison").await;
    send_message(&queue, "g", "fine").await;
    for receives in 1..=2 {
        let poison = receive_next(&queue, None).await;
        assert_eq!((poison.body.as_str(), poison.receive_count), ("poison", receives));
        queue.change_visibility(&poison.receipt, Duration::ZERO).await.unwrap();
    }
    let fine = receive_next(&queue, None).await;
    assert_eq!((fine.body.as_str(), fine.receive_count), ("fine", 1));
    let letter = receive_next(&dead, None).await;
    assert_eq!((letter.body.as_str(), letter.group.as_str()), ("poison", "g"));
    queue.delete(&fine.receipt).await.unwrap();
    dead.delete(&letter.receipt).await.unwrap();
    assert_nothing_received(&queue).await;
    assert_nothing_received(&dead).await;
}
