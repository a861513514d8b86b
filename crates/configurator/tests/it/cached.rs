//! Hazard: a cache hit although something has changed, or for a block without `cache`.

use configurator::run::RunStatus;
use store::testing::run_test;

use super::harness::{ConfiguratorHarness, run_request, statuses, template};

#[test]
fn only_what_is_unchanged_and_says_so_is_served_from_the_cache() {
    run_test(async {
        let world = ConfiguratorHarness::fresh().await;
        let (_role, _stop) = world.start();
        let _integration = world.spawn_integration();
        let cached = |more: &str| {
            let text = template(&[("a", &[], more), ("b", &["a"], ""), ("c", &["b"], "")]);
            text.replace("integration: q.do", "integration: q.do, cache: true")
        };
        world.run("t", &cached("")).await;
        assert_eq!(world.came().len(), 3);
        let run = world.run("t", &cached("")).await;
        assert_eq!(run.status, RunStatus::Succeeded);
        assert_eq!(statuses(&run), ["a cached", "b cached", "c cached"]);
        assert!(
            run.blocks.iter().all(|block| block.state.is_some()),
            "the export has their states"
        );
        let forecast =
            world.configurator.forecast_run(run_request("t", &cached(""))).await.unwrap();
        assert!(forecast.iter().all(|block| block.action.is_none()), "{forecast:?}");
        assert!(world.came().is_empty());
        // The changed block is sent. Its dependents get the same outputs and are cache hits.
        let run = world.run("t", &cached("extra: 1")).await;
        assert_eq!(statuses(&run), ["a succeeded", "b cached", "c cached"]);
        assert_eq!(world.came(), ["update a"]);
        let versioned = cached("extra: 1").replace("cache: true", "cache: true, version: 2");
        world.run("t", &versioned).await;
        assert_eq!(world.came().len(), 3, "another version of the integration");
        for (version, sent) in
            [("1.1", 3), ("1.10", 3), ("1.10", 0), ("'1.10'", 0), ("1.1", 3), ("01", 3), ("1", 3)]
        {
            let versioned = cached("extra: 1")
                .replace("cache: true", &format!("cache: true, version: {version}"));
            world.run("t", &versioned).await;
            assert_eq!(world.came().len(), sent, "version {version}");
        }
        world.run("t", &template(&[("a", &[], "extra: 1")])).await;
        // The deletions of the other two come in any order beside it.
        let came = world.came();
        assert!(
            came.iter().any(|sent| sent == "update a"),
            "a block that does not ask for it: {came:?}"
        );
    });
}
