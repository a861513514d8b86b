//! Hazard: an existing queue is not found, or gets other settings than requested.

use std::time::Duration;

use queue::fifo::{FifoCatalogue, FifoQueueOptions};
use queue_testing::catalogue::assert_catalogue_conforms;
use store::testing::run_test;

use super::emulator::SqsEmulator;

#[test]
fn queues_at_amazons_are_seen_made_and_changed() {
    run_test(async {
        let emulator = SqsEmulator::start().await;
        let engine = emulator.engine().await;
        assert_catalogue_conforms(&engine, &engine).await;
    });
}

#[test]
fn an_account_that_is_away_is_an_error_and_not_an_account_without_queues() {
    run_test(async {
        let emulator = SqsEmulator::start().await;
        let engine = emulator.engine().await;
        drop(emulator);
        assert!(engine.find_queues(&["a.fifo".to_owned()]).await.is_err());
        let terms =
            FifoQueueOptions { visibility_timeout: Duration::from_secs(30), dead_letters: None };
        assert!(FifoCatalogue::ensure_queue(&engine, "a.fifo", terms).await.is_err());
    });
}
