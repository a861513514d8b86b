//! Receipts: a receiver owns a message until its visibility timeout, not longer.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{ONE_SECOND, assert_nothing_received, create_queue, receive_next, send_message};
use queue::fifo::{FifoEngine, FifoError};

pub(super) async fn a_message_comes_again_after_its_time_out(engine: Arc<dyn FifoEngine>) {
    let queue = create_queue(&engine).await;
    send_message(&queue, "g", "first").await;
    send_message(&queue, "g", "second").await;
    let asked = Instant::now();
    let once = receive_next(&queue, Some(ONE_SECOND)).await;
    let again = receive_next(&queue, None).await;
    assert!(asked.elapsed() >= ONE_SECOND, "not before the time-out");
    assert_eq!((once.receive_count, again.receive_count), (1, 2));
    assert_eq!((once.body, once.id), (again.body, again.id));
    assert_ne!(once.receipt, again.receipt);
    assert_nothing_received(&queue).await;
}

pub(super) async fn an_expired_receipt_is_refused(engine: Arc<dyn FifoEngine>) {
    let queue = create_queue(&engine).await;
    send_message(&queue, "g", "b").await;
    let old = receive_next(&queue, Some(ONE_SECOND)).await;
    let new = receive_next(&queue, None).await;
    for _ in 0..2 {
        // Also after the message is deleted.
        let deleted = queue.delete(&old.receipt).await;
        assert!(matches!(deleted, Err(FifoError::ReceiptExpired)), "{deleted:?}");
        let extended = queue.change_visibility(&old.receipt, ONE_SECOND).await;
        assert!(matches!(extended, Err(FifoError::ReceiptExpired)), "{extended:?}");
        queue.delete(&new.receipt).await.unwrap();
    }
    assert_nothing_received(&queue).await;
}

pub(super) async fn visibility_can_be_extended_and_ended(engine: Arc<dyn FifoEngine>) {
    let queue = create_queue(&engine).await;
    send_message(&queue, "g", "b").await;
    let kept = receive_next(&queue, Some(2 * ONE_SECOND)).await;
    queue.change_visibility(&kept.receipt, Duration::from_secs(30)).await.unwrap();
    assert!(
        queue.receive(1, 3 * ONE_SECOND, None).await.unwrap().is_empty(),
        "kept beyond the first time-out"
    );
    queue.change_visibility(&kept.receipt, Duration::ZERO).await.unwrap();
    let again = receive_next(&queue, None).await;
    assert_eq!(again.receive_count, 2);
    queue.delete(&again.receipt).await.unwrap();
    assert_nothing_received(&queue).await;
}

pub(super) async fn deleting_twice_is_deleting_once(engine: Arc<dyn FifoEngine>) {
    let queue = create_queue(&engine).await;
    send_message(&queue, "g", "first").await;
    send_message(&queue, "g", "second").await;
    let first = receive_next(&queue, None).await;
    for _ in 0..3 {
        queue.delete(&first.receipt).await.unwrap();
    }
    assert_eq!(receive_next(&queue, None).await.body, "second");
}
