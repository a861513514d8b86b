//! Who received a message owns it until the time-out, and not a moment longer.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{SECOND, next, nothing, queue, send};
use queue::fifo::{FifoEngine, FifoError};

pub(super) async fn a_message_comes_again_after_its_time_out(engine: Arc<dyn FifoEngine>) {
    let queue = queue(&engine).await;
    send(&queue, "g", "first").await;
    send(&queue, "g", "second").await;
    let asked = Instant::now();
    let once = next(&queue, Some(SECOND)).await;
    let again = next(&queue, None).await;
    assert!(asked.elapsed() >= SECOND, "not before the time-out");
    assert_eq!((once.receives, again.receives), (1, 2));
    assert_eq!((once.body, once.id), (again.body, again.id));
    assert_ne!(once.receipt, again.receipt);
    nothing(&queue).await;
}

pub(super) async fn an_expired_receipt_is_refused(engine: Arc<dyn FifoEngine>) {
    let queue = queue(&engine).await;
    send(&queue, "g", "b").await;
    let old = next(&queue, Some(SECOND)).await;
    let new = next(&queue, None).await;
    for _ in 0..2 {
        // Also when the message is gone.
        let deleted = queue.delete(&old.receipt).await;
        assert!(matches!(deleted, Err(FifoError::Expired)), "{deleted:?}");
        let extended = queue.change_visibility(&old.receipt, SECOND).await;
        assert!(matches!(extended, Err(FifoError::Expired)), "{extended:?}");
        queue.delete(&new.receipt).await.unwrap();
    }
    nothing(&queue).await;
}

pub(super) async fn visibility_can_be_extended_and_ended(engine: Arc<dyn FifoEngine>) {
    let queue = queue(&engine).await;
    send(&queue, "g", "b").await;
    let kept = next(&queue, Some(2 * SECOND)).await;
    queue.change_visibility(&kept.receipt, Duration::from_secs(30)).await.unwrap();
    assert!(queue.receive(1, 3 * SECOND, None).await.unwrap().is_empty(), "kept beyond the first time-out");
    queue.change_visibility(&kept.receipt, Duration::ZERO).await.unwrap();
    let again = next(&queue, None).await;
    assert_eq!(again.receives, 2);
    queue.delete(&again.receipt).await.unwrap();
    nothing(&queue).await;
}

pub(super) async fn deleting_twice_is_deleting_once(engine: Arc<dyn FifoEngine>) {
    let queue = queue(&engine).await;
    send(&queue, "g", "first").await;
    send(&queue, "g", "second").await;
    let first = next(&queue, None).await;
    for _ in 0..3 {
        queue.delete(&first.receipt).await.unwrap();
    }
    assert_eq!(next(&queue, None).await.body, "second");
}
