//! Hazard: ticks work on one FIFO engine and are lost or duplicated on the other. Both run the same
//! suite.

use store::testing::run_test;
use tokio_util::sync::CancellationToken;

use crate::engine_suite::each_tick_is_done_once;
use crate::harness::World;

#[test]
fn each_tick_is_done_once_on_postgres() {
    run_test(async {
        each_tick_is_done_once(World::fresh().await, CancellationToken::new()).await
    });
}
