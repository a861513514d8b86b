//! Hazard: a configurator that crashes at any point loses a block or sends it twice.

use std::time::Duration;

use configurator::run::RunStatus;
use store::testing::run_test;

use super::harness::{ConfiguratorHarness, template};

/// The role is aborted in the middle several times; a new one continues.
#[test]
fn a_run_goes_on_whenever_its_driver_dies() {
    run_test(async {
        let world = ConfiguratorHarness::fresh().await;
        let _integration = world.spawn_integration();
        let names: Vec<String> = (0..60).map(|n| format!("b{n}")).collect();
        // Six chains of ten blocks.
        let blocks: Vec<(&str, Vec<&str>)> = (0..60)
            .map(|n| (names[n].as_str(), if n < 6 { vec![] } else { vec![names[n - 6].as_str()] }))
            .collect();
        let blocks: Vec<(&str, &[&str], &str)> =
            blocks.iter().map(|(name, needs)| (*name, needs.as_slice(), "")).collect();
        let run_id = world.begin_run("t", &template(&blocks)).await.unwrap();
        let mut deaths = 0;
        loop {
            let (mut role, _stop) = world.start();
            let ended = world
                .configurator
                .wait_for_run(run_id, Duration::from_millis(30 + 7 * deaths))
                .await
                .unwrap();
            // Cancelled at any await point.
            role.abort_all();
            while role.join_next().await.is_some() {}
            if ended.status != RunStatus::Running {
                assert_eq!(ended.status, RunStatus::Succeeded);
                break;
            }
            deaths += 1;
        }
        assert!(deaths > 2, "it died only {deaths} times");
        let mut came = world.came();
        assert_eq!(came.len(), 60, "each once");
        came.sort();
        came.dedup();
        assert_eq!(came.len(), 60);
    });
}

/// Two drivers at the same time: nothing is done twice.
#[test]
fn two_drivers_do_not_double_anything() {
    run_test(async {
        let world = ConfiguratorHarness::fresh().await;
        let (_one, _stop) = world.start();
        let (_other, _stop_too) = world.start();
        let _integration = world.spawn_integration();
        let text = template(&[("a", &[], ""), ("b", &["a"], ""), ("c", &["a"], "")]);
        for n in 0..5 {
            assert_eq!(world.run(&format!("t{n}"), &text).await.status, RunStatus::Succeeded);
        }
        assert_eq!(world.came().len(), 15);
    });
}

/// Sixty blocks: six chains of ten.
fn chains() -> String {
    let names: Vec<String> = (0..60).map(|n| format!("b{n}")).collect();
    let needs: Vec<Vec<&str>> =
        (0..60).map(|n| if n < 6 { vec![] } else { vec![names[n - 6].as_str()] }).collect();
    let blocks: Vec<(&str, &[&str], &str)> = names
        .iter()
        .zip(&needs)
        .map(|(name, needs)| (name.as_str(), needs.as_slice(), ""))
        .collect();
    template(&blocks)
}

/// Connections are closed in the middle of steps: uncommitted changes in memory are discarded.
#[test]
fn a_run_goes_on_whenever_its_transactions_are_cut() {
    run_test(async {
        let world = ConfiguratorHarness::fresh().await;
        let (_role, _stop) = world.start();
        let _integration = world.spawn_integration();
        let (mut cuts, mut runs) = (0, 0);
        while cuts < 10 {
            assert!(runs < 50, "only {cuts} cuts");
            let run_id = world.begin_run(&format!("t{runs}"), &chains()).await.unwrap();
            runs += 1;
            // On a slow machine every step would be hit, and no step would ever commit.
            let (mut left, mut ended) = (CUTS_OF_A_RUN, false);
            while !ended && left > 0 {
                let cut: i64 =
                    sqlx::query_scalar(CUT).fetch_one(&world.configurator.pool).await.unwrap();
                (cuts, left) = (cuts + cut, left - cut);
                ended =
                    world.configurator.get_run(run_id).await.unwrap().status != RunStatus::Running;
            }
            assert_eq!(world.wait_for_end(run_id).await.status, RunStatus::Succeeded);
        }
        let mut came = std::mem::take(&mut *world.calls.lock().unwrap());
        assert_eq!(came.len(), 60 * runs, "each once, after {cuts} cuts");
        came.sort_by_key(|call| call.block_id);
        came.dedup_by_key(|call| call.block_id);
        assert_eq!(came.len(), 60 * runs);
    });
}

const CUTS_OF_A_RUN: i64 = 5;

/// Terminates backends that are in a step with uncommitted writes.
const CUT: &str = "SELECT count(*) FILTER (WHERE pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND state IN ('active', 'idle in transaction')
  AND query ~ '-- (write_run_blocks|write_sends|store_states|take_answers)|-- (block_ids|touch_instance)'";
