//! Hazard: a block that was removed from the template is deleted too early, never, or against a
//! refusal; or a failure affects more than its dependents.

use configurator::ConfiguratorError;
use configurator::run::RunStatus;
use store::testing::run_test;
use uuid::Uuid;

use super::harness::{ConfiguratorHarness, run_request, statuses, template};

#[test]
fn blocks_that_have_gone_are_deleted_after_what_used_them() {
    run_test(async {
        let world = ConfiguratorHarness::fresh().await;
        let (_role, _stop) = world.start();
        let _integration = world.spawn_integration();
        let chain =
            template(&[("a", &[], ""), ("b", &["a"], ""), ("c", &["b"], ""), ("d", &[], "")]);
        assert_eq!(world.run("t", &chain).await.status, RunStatus::Succeeded);
        assert_eq!(world.came().len(), 4);
        let last = template(&[("d", &[], "")]);
        let forecast = world.configurator.forecast_run(run_request("t", &last)).await.unwrap();
        let mut foreseen: Vec<String> = forecast
            .iter()
            .map(|block| format!("{} {}", block.action.unwrap().name(), block.name))
            .collect();
        let done = world.run("t", &last).await;
        assert_eq!(done.status, RunStatus::Succeeded);
        let mut came = world.came();
        let deleted: Vec<&String> = came.iter().filter(|call| call.starts_with("delete")).collect();
        assert_eq!(deleted, ["delete c", "delete b", "delete a"]);
        // The forecast matches the sent messages.
        foreseen.sort();
        came.sort();
        assert_eq!(came, foreseen);
        world.run("t", &last).await;
        assert_eq!(world.came(), ["update d"], "what is deleted is deleted once");
    });
}

#[test]
fn a_block_that_is_not_deleted_is_orphaned_and_comes_back_as_an_update() {
    run_test(async {
        let world = ConfiguratorHarness::fresh().await;
        let (_role, _stop) = world.start();
        let _integration = world.spawn_integration();
        let both = template(&[("a", &[], "refuse_delete: true"), ("b", &["a"], "")]);
        world.run("t", &both).await;
        world.came();
        let without = template(&[("c", &[], "")]);
        let run = world.run("t", &without).await;
        assert_eq!(run.status, RunStatus::Succeeded, "the run goes on");
        assert_eq!(statuses(&run), ["c succeeded", "a orphaned", "b succeeded"]);
        world.came();
        world.run("t", &without).await;
        assert_eq!(world.came(), ["update c"], "an orphan is left alone");
        world.run("t", &template(&[("a", &[], "")])).await;
        let mut came = world.came();
        came.sort();
        assert_eq!(came, ["delete c", "update a"]);
    });
}

#[test]
fn a_failed_block_takes_its_dependants_along_and_the_run_is_resumed_from_it() {
    run_test(async {
        let world = ConfiguratorHarness::fresh().await;
        let (_role, _stop) = world.start();
        let integration = world.spawn_integration();
        let failing = template(&[
            ("a", &[], ""),
            ("b", &["a"], "fail: OWN"),
            ("c", &["b"], ""),
            ("d", &["c", "a"], ""),
            ("e", &["a"], ""),
        ]);
        let run = world.run("t", &failing).await;
        assert_eq!(run.status, RunStatus::Failed);
        assert_eq!(
            statuses(&run),
            ["a succeeded", "b failed", "c skipped", "d skipped", "e succeeded"]
        );
        assert_eq!(run.blocks[1].error.as_ref().unwrap().code, "OWN");
        let mut came = world.came();
        came.sort();
        assert_eq!(came, ["create a", "create b", "create e"]);
        // Replaces the integration by one that succeeds.
        integration.abort();
        let _ = integration.await;
        let mended = super::sdk::MendedIntegration::start(&world, "q");
        world
            .configurator
            .resume_run(run.run_id, &audit::AuditActor::of_service("test"))
            .await
            .unwrap();
        let run = world.wait_for_end(run.run_id).await;
        assert_eq!(run.status, RunStatus::Succeeded);
        assert_eq!(
            mended.calls(),
            ["create b", "create c", "create d"],
            "what had succeeded is not sent again"
        );
        assert_eq!(run.blocks[1].attempts, 2);
        let again =
            world.configurator.resume_run(run.run_id, &audit::AuditActor::of_service("test")).await;
        assert!(matches!(again, Err(ConfiguratorError::Status("succeeded"))), "{again:?}");
    });
}

#[test]
fn one_run_of_an_instance_at_a_time_and_a_cancelled_one_stores_what_still_comes() {
    run_test(async {
        let world = ConfiguratorHarness::fresh().await;
        let (_role, _stop) = world.start();
        let _integration = world.spawn_integration();
        let waiting = template(&[("a", &[], "wait: true"), ("b", &["a"], "")]);
        let run_id = world.begin_run("t", &waiting).await.unwrap();
        let second = world.begin_run("t", &waiting).await;
        assert!(
            matches!(second, Err(ConfiguratorError::Running(running)) if running == run_id),
            "{second:?}"
        );
        world
            .wait_until("the block is in work", async || {
                world.begun.load(std::sync::atomic::Ordering::SeqCst) > 0
            })
            .await;
        let cancelled = world
            .configurator
            .cancel_run(run_id, &audit::AuditActor::of_service("test"))
            .await
            .unwrap();
        assert_eq!(statuses(&cancelled), ["a sent", "b skipped"]);
        world
            .configurator
            .cancel_run(run_id, &audit::AuditActor::of_service("test"))
            .await
            .unwrap();
        world.go_on.add_permits(1);
        let answered = async || {
            let run = world.configurator.get_run(run_id).await.unwrap();
            statuses(&run)[0] == "a succeeded"
        };
        world.wait_until("the late answer is shown", answered).await;
        world.came();
        world.go_on.add_permits(10);
        assert_eq!(world.run("t", &waiting).await.status, RunStatus::Succeeded);
        assert_eq!(world.came(), ["update a", "create b"]);
        let superseded =
            world.configurator.resume_run(run_id, &audit::AuditActor::of_service("test")).await;
        assert!(matches!(superseded, Err(ConfiguratorError::Superseded(_))), "{superseded:?}");
    });
}

#[test]
fn a_run_without_blocks_ends_and_is_the_one_run_of_its_request() {
    run_test(async {
        let world = ConfiguratorHarness::fresh().await;
        let (_role, _stop) = world.start();
        let (empty, request) = ("type: module\nname: global\nblocks: []\n", Uuid::from_u128(7));
        let first =
            world.configurator.begin_run_once(run_request("t", empty), request).await.unwrap();
        assert_eq!(world.wait_for_end(first).await.status, RunStatus::Succeeded);
        assert_eq!(
            world.configurator.begin_run_once(run_request("t", empty), request).await.unwrap(),
            first
        );
        assert_ne!(world.configurator.begin_run(run_request("t", empty)).await.unwrap(), first);
    });
}
