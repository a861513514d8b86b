//! Hazard: an existing queue is not found, or gets other settings than requested.

use queue::fifo::PgFifoCatalogue;
use queue_testing::catalogue::assert_catalogue_conforms;
use store::testing::{create_control_database, run_test};

use super::engine;

#[test]
fn queues_in_postgres_are_seen_made_and_changed() {
    run_test(async {
        let pool = create_control_database().await;
        assert_catalogue_conforms(&PgFifoCatalogue(pool.clone()), engine(&pool).as_ref()).await;
    });
}
