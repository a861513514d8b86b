//! Hazard: an engine deviates from Amazon SQS. Every engine runs the same suite.

use queue_testing::conformance::assert_engine_conforms;
use store::testing::{create_control_database, run_test};

use super::engine;

#[test]
fn the_engine_postgres_does_what_amazon_documents() {
    run_test(async { assert_engine_conforms(engine(&create_control_database().await)).await });
}
