//! Hazard: the engine deviates from Amazon SQS. Every engine runs the same suite.

use std::sync::Arc;

use queue_testing::conformance::assert_engine_conforms;
use store::testing::run_test;

use super::emulator::SqsEmulator;

#[test]
fn the_engine_sqs_does_so_against_an_emulator() {
    run_test(async {
        let emulator = SqsEmulator::start().await;
        assert_engine_conforms(Arc::new(emulator.engine().await)).await;
    });
}
