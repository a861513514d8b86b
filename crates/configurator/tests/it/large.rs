//! Hazard: a cost that grows with the size of the graph, or more ready messages than
//! one transaction can send.

use configurator::run::RunStatus;
use store::testing::run_test;

use super::harness::{ConfiguratorHarness, template};

#[test]
fn a_fan_wider_than_a_transaction_and_long_chains_end() {
    run_test(async {
        let world = ConfiguratorHarness::fresh().await;
        let (_role, _stop) = world.start();
        let _integration = world.spawn_integration();
        let names: Vec<String> = (0..900).map(|n| format!("b{n}")).collect();
        // One block with 600 dependents, and chains of thirty below some of those.
        let needs: Vec<Vec<&str>> = (0..900)
            .map(|n| match n {
                0 => vec![],
                1..601 => vec![names[0].as_str()],
                n if n < 611 => vec![names[n - 500].as_str()],
                n => vec![names[n - 10].as_str()],
            })
            .collect();
        let blocks: Vec<(&str, &[&str], &str)> = names
            .iter()
            .zip(&needs)
            .map(|(name, needs)| (name.as_str(), needs.as_slice(), ""))
            .collect();
        let run = world.run("t", &template(&blocks)).await;
        assert_eq!(run.status, RunStatus::Succeeded);
        let mut came = world.came();
        came.sort();
        came.dedup();
        assert_eq!(came.len(), 900, "each once");
    });
}
