//! Group order: messages of a group are received one at a time, by any number of receivers.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};

use super::{assert_nothing_received, create_queue, receive_next, send_message};
use queue::fifo::FifoEngine;

pub(super) async fn a_group_comes_in_the_order_it_was_sent(engine: Arc<dyn FifoEngine>) {
    let queue = create_queue(&engine).await;
    for n in 0..12 {
        send_message(&queue, "g", &n.to_string()).await;
    }
    let (mut seen, mut last) = (Vec::new(), 0);
    while seen.len() < 12 {
        for message in queue.receive(10, super::RECEIVE_TIMEOUT, None).await.unwrap() {
            assert!(message.sequence > last, "sequence numbers grow");
            last = message.sequence;
            queue.delete(&message.receipt).await.unwrap();
            seen.push(message.body);
        }
    }
    assert_eq!(seen, (0..12).map(|n| n.to_string()).collect::<Vec<_>>());
}

pub(super) async fn the_next_waits_while_an_earlier_one_is_in_flight(engine: Arc<dyn FifoEngine>) {
    let queue = create_queue(&engine).await;
    send_message(&queue, "g", "first").await;
    send_message(&queue, "g", "second").await;
    let first = receive_next(&queue, None).await;
    assert_eq!(first.body, "first");
    assert_nothing_received(&queue).await;
    // Sent while the first is in flight: it waits, too.
    send_message(&queue, "g", "third").await;
    assert_nothing_received(&queue).await;
    queue.delete(&first.receipt).await.unwrap();
    for body in ["second", "third"] {
        let message = receive_next(&queue, None).await;
        assert_eq!(message.body, body);
        queue.delete(&message.receipt).await.unwrap();
    }
}

pub(super) async fn groups_do_not_wait_for_one_another(engine: Arc<dyn FifoEngine>) {
    let queue = create_queue(&engine).await;
    for group in 0..10 {
        for body in ["first", "second"] {
            send_message(&queue, &group.to_string(), body).await;
        }
    }
    let mut in_flight = HashSet::new();
    while in_flight.len() < 10 {
        let message = receive_next(&queue, None).await;
        assert_eq!(message.body, "first");
        assert!(in_flight.insert(message.group), "one of a group at a time");
    }
    assert_nothing_received(&queue).await;
}

/// Eight receivers: within a group, work on one message ends before the next one is received.
pub(super) async fn many_receivers_never_overlap_within_a_group(engine: Arc<dyn FifoEngine>) {
    const GROUP_COUNT: usize = 7;
    const MESSAGES_PER_GROUP: usize = 12;
    let queue = create_queue(&engine).await;
    let done: Arc<Mutex<HashMap<String, Vec<usize>>>> = Arc::default();
    let in_work: Arc<Mutex<HashSet<String>>> = Arc::default();
    let receivers: Vec<_> = (0..8)
        .map(|_| {
            let (queue, done, in_work) = (queue.clone(), done.clone(), in_work.clone());
            tokio::spawn(async move {
                while done.lock().unwrap().values().map(Vec::len).sum::<usize>()
                    < GROUP_COUNT * MESSAGES_PER_GROUP
                {
                    for message in queue.receive(3, super::ONE_SECOND, None).await.unwrap() {
                        assert!(in_work.lock().unwrap().insert(message.group.clone()), "overlap");
                        tokio::task::yield_now().await;
                        done.lock()
                            .unwrap()
                            .entry(message.group.clone())
                            .or_default()
                            .push(message.body.parse().unwrap());
                        assert!(in_work.lock().unwrap().remove(&message.group));
                        queue.delete(&message.receipt).await.unwrap();
                    }
                }
            })
        })
        .collect();
    for n in 0..MESSAGES_PER_GROUP {
        for group in 0..GROUP_COUNT {
            send_message(&queue, &format!("g{group}"), &n.to_string()).await;
        }
    }
    for receiver in receivers {
        receiver.await.unwrap();
    }
    let done = done.lock().unwrap();
    assert_eq!(done.len(), GROUP_COUNT);
    assert!(
        done.values().all(|bodies| *bodies == (0..MESSAGES_PER_GROUP).collect::<Vec<_>>()),
        "{done:?}"
    );
}
