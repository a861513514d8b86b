//! A message that nobody can deal with does not block its group for ever.

use std::sync::Arc;
use std::time::Duration;

use super::{next, nothing, queue, queue_with, send};
use queue::fifo::{DeadLetters, FifoEngine};

pub(super) async fn what_is_received_too_often_is_a_dead_letter(engine: Arc<dyn FifoEngine>) {
    let dead = queue(&engine).await;
    let dead_letters = DeadLetters { queue: dead.name().to_owned(), max_receives: 2 };
    let queue = queue_with(&engine, Some(dead_letters)).await;
    send(&queue, "g", "poison").await;
    send(&queue, "g", "fine").await;
    for receives in 1..=2 {
        let poison = next(&queue, None).await;
        assert_eq!((poison.body.as_str(), poison.receives), ("poison", receives));
        queue.change_visibility(&poison.receipt, Duration::ZERO).await.unwrap();
    }
    let fine = next(&queue, None).await;
    assert_eq!((fine.body.as_str(), fine.receives), ("fine", 1));
    let letter = next(&dead, None).await;
    assert_eq!((letter.body.as_str(), letter.group.as_str()), ("poison", "g"));
    queue.delete(&fine.receipt).await.unwrap();
    dead.delete(&letter.receipt).await.unwrap();
    nothing(&queue).await;
    nothing(&dead).await;
}
