//! Hazard: an engine that is almost like Amazon's. The suite is the same for every engine.

use std::sync::Arc;

use queue::fifo::FifoEngine;
use queue_testing::conformance::CASES;
use queue_testing::emulator::Emulator;
use store::testing::{control_database, run};

use super::engine;

async fn conforms(engine: Arc<dyn FifoEngine>) {
    // Queues of its own for each: all at once.
    let running: Vec<_> =
        CASES.iter().map(|(name, case)| (name, tokio::spawn(case(engine.clone())))).collect();
    let mut failed = Vec::new();
    for (name, case) in running {
        if case.await.is_err() {
            failed.push(*name);
        }
    }
    assert!(failed.is_empty(), "{failed:?}");
    assert!(CASES.len() >= 16, "{}", CASES.len());
}

#[test]
fn the_engine_postgres_does_what_amazon_documents() {
    run(async { conforms(engine(&control_database().await)).await });
}

#[test]
fn the_engine_sqs_does_so_against_an_emulator() {
    run(async {
        let emulator = Emulator::start().await;
        conforms(Arc::new(emulator.engine().await)).await;
    });
}
