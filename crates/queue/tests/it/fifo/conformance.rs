//! Hazard: an engine deviates from Amazon SQS. Every engine runs the same suite.

use std::sync::Arc;

use queue::fifo::FifoEngine;
use queue_testing::conformance::CONFORMANCE_CASES;
use queue_testing::emulator::SqsEmulator;
use store::testing::{create_control_database, run_test};

use super::engine;

async fn conforms(engine: Arc<dyn FifoEngine>) {
    // Each case creates separate queues, so all run concurrently.
    let running: Vec<_> = CONFORMANCE_CASES
        .iter()
        .map(|(name, case)| (name, tokio::spawn(case(engine.clone()))))
        .collect();
    let mut failed = Vec::new();
    for (name, case) in running {
        if case.await.is_err() {
            failed.push(*name);
        }
    }
    assert!(failed.is_empty(), "{failed:?}");
    assert!(CONFORMANCE_CASES.len() >= 16, "{}", CONFORMANCE_CASES.len());
}

#[test]
fn the_engine_postgres_does_what_amazon_documents() {
    run_test(async { conforms(engine(&create_control_database().await)).await });
}

#[test]
fn the_engine_sqs_does_so_against_an_emulator() {
    run_test(async {
        let emulator = SqsEmulator::start().await;
        conforms(Arc::new(emulator.engine().await)).await;
    });
}
