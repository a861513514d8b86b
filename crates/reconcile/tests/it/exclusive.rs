//! Hazard: a run outlives the connection that holds its lock, and another run begins beside it.

use std::time::Duration;

use reconcile::{MAX_EXCLUSIVE_WORK, run_exclusively};
use store::testing::{create_control_database, run_test};

#[test]
fn a_run_is_stopped_at_its_time_limit_and_the_next_one_begins() {
    run_test(async {
        let pool = create_control_database().await;
        let endless = std::future::pending::<()>();
        let stopped = run_exclusively(&pool, "r", Duration::from_millis(50), endless).await;
        let reason = stopped.unwrap_err().to_string();
        assert!(reason.contains("stopped at its time limit"), "{reason}");
        let next = run_exclusively(&pool, "r", MAX_EXCLUSIVE_WORK, std::future::ready(7)).await;
        assert_eq!(next.unwrap(), 7);
    });
}
