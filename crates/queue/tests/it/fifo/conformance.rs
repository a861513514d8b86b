//! Hazard: an engine that is almost like Amazon's. The suite is the same for every engine.

use queue::fifo::conformance::CASES;
use store::testing::{control_database, run};

use super::engine;

#[test]
fn the_engine_postgres_does_what_amazon_documents() {
    run(async {
        let engine = engine(&control_database().await);
        // Queues of its own for each: all at once.
        let running: Vec<_> =
            CASES.iter().map(|(name, case)| (name, tokio::spawn(case(engine.clone())))).collect();
        for (name, case) in running {
            assert!(case.await.is_ok(), "{name}");
        }
        assert!(CASES.len() >= 16, "{}", CASES.len());
    });
}
