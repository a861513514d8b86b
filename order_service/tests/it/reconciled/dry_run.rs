//! Hazard: a dry run writes, or skips checks of a real run.

use super::world::{World, ended};

const INTEGRATIONS: usize = 6;

#[test]
fn a_dry_run_as_a_user_who_may_not_write_goes_as_deep_as_a_real_run_and_changes_nothing() {
    store::testing::run_test(async {
        let world = World::new().await;
        let reader = world.reader().await;
        // Round 1 creates everything, round 2 changes everything.
        for round in 1..=2 {
            world.change(round);
            let before = world.contents().await;
            let json = ["--output", "json"];
            let dry = ended(world.command_as(&reader, &[&json[..], &["--dry-run"]].concat())).await;
            let refused = ended(world.command_as(&reader, &json)).await;
            assert_eq!(world.contents().await, before, "round {round}");
            let (dry, refused) = (dry.json(), refused.json());
            assert_eq!(
                (&dry["dry_run"], &dry["summary"]["failed"]),
                (&true.into(), &0.into()),
                "{dry}"
            );
            // Check that the user is read-only everywhere.
            assert_eq!(refused["summary"]["failed"], INTEGRATIONS, "{refused}");
            for integration in refused["integrations"].as_array().unwrap() {
                assert!(integration.to_string().contains("permission denied"), "{integration}");
            }
            let real = world.run(&json).await.json();
            assert_eq!(dry["integrations"].as_array().unwrap().len(), INTEGRATIONS);
            for (dry, real) in dry["integrations"]
                .as_array()
                .unwrap()
                .iter()
                .zip(real["integrations"].as_array().unwrap())
            {
                assert_eq!(dry["changes"], real["changes"], "round {round}");
                assert!(
                    !dry["changes"].as_array().unwrap().is_empty(),
                    "{}: nothing to do",
                    dry["name"]
                );
            }
            assert_ne!(world.contents().await, before);
        }
        world.change(3);
        assert_ne!(world.run(&["--dry-run"]).await.planned(), [0, 0, 0]);
        world.run(&[]).await.planned();
        assert_eq!(world.run(&[]).await.planned(), [0, 0, 0]);
    });
}
