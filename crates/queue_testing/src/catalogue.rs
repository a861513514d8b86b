//! Conformance suite of FIFO catalogues: how queues are found, created and changed.

#![allow(clippy::unwrap_used, clippy::panic)] // a failing catalogue panics

use std::collections::BTreeMap;
use std::time::Duration;

use queue::fifo::{DeadLetterPolicy, FifoCatalogue, FifoEngine, FifoQueueOptions, NewFifoMessage};

fn terms(seconds: u64, dead: Option<(&str, u32)>) -> FifoQueueOptions {
    let dead_letters = dead
        .map(|(queue, max_receives)| DeadLetterPolicy { queue: queue.to_owned(), max_receives });
    FifoQueueOptions { visibility_timeout: Duration::from_secs(seconds), dead_letters }
}

/// Creates, changes and finds queues; panics if the catalogue does not keep what it is told.
pub async fn assert_catalogue_conforms(catalogue: &dyn FifoCatalogue, engine: &dyn FifoEngine) {
    let names = ["a.fifo", "dead.fifo", "other.fifo", "nowhere.fifo"].map(str::to_owned);
    let look = async || catalogue.find_queues(&names).await.unwrap();
    assert_eq!(look().await, BTreeMap::new());
    let dead = catalogue.ensure_queue("a.fifo", terms(30, Some(("dead.fifo", 5)))).await;
    assert!(dead.is_err(), "dead letters go to a queue that is there");
    assert_eq!(look().await, BTreeMap::new(), "nothing was made by halves");

    let there = |wanted: &[(&str, FifoQueueOptions)]| -> BTreeMap<String, FifoQueueOptions> {
        wanted.iter().map(|(name, terms)| ((*name).to_owned(), terms.clone())).collect()
    };
    catalogue.ensure_queue("dead.fifo", terms(30, None)).await.unwrap();
    catalogue.ensure_queue("other.fifo", terms(30, None)).await.unwrap();
    let (fixed, rest) =
        (terms(30, None), [("dead.fifo", terms(30, None)), ("other.fifo", terms(30, None))]);
    let with = |terms: FifoQueueOptions| there(&[&rest[..], &[("a.fifo", terms)]].concat());
    catalogue.ensure_queue("a.fifo", terms(30, Some(("dead.fifo", 5)))).await.unwrap();
    let message = NewFifoMessage {
        group: "g".to_owned(),
        deduplication_id: "d".to_owned(),
        body: "kept".to_owned(),
        attributes: BTreeMap::new(),
    };
    engine.open_queue("a.fifo").await.unwrap().send(message).await.unwrap();
    let steps = [
        terms(30, Some(("dead.fifo", 5))),
        terms(31, Some(("dead.fifo", 5))),
        terms(31, Some(("dead.fifo", 6))),
        terms(31, Some(("other.fifo", 6))),
        // Without dead letters, and with them again.
        fixed.clone(),
        terms(30, Some(("dead.fifo", 5))),
    ];
    for step in steps {
        // A repeat changes nothing.
        for _ in 0..2 {
            catalogue.ensure_queue("a.fifo", step.clone()).await.unwrap();
            assert_eq!(look().await, with(step.clone()));
        }
    }
    let queue = engine.open_queue("a.fifo").await.unwrap();
    let kept = queue.receive(1, Duration::from_secs(5), None).await.unwrap();
    assert_eq!(kept.first().map(|message| message.body.as_str()), Some("kept"));
}
