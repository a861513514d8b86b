//! Hazard: a driver that is not woken by answers, and finds them only when it looks: once a second.

use std::time::{Duration, Instant};

use configurator::run::RunStatus;
use store::testing::run;

use super::harness::{World, template};

#[test]
fn a_chain_is_carried_on_by_answers_and_not_by_looking() {
    run(async {
        let world = World::fresh().await;
        let (_role, _stop) = world.start();
        let _integration = world.integrate();
        let names: Vec<String> = (0..40).map(|n| format!("b{n}")).collect();
        let needs: Vec<Vec<&str>> =
            (0..40).map(|n| if n == 0 { vec![] } else { vec![names[n - 1].as_str()] }).collect();
        let blocks: Vec<(&str, &[&str], &str)> =
            names.iter().zip(&needs).map(|(name, needs)| (name.as_str(), needs.as_slice(), "")).collect();
        let begun = Instant::now();
        let run = world.run("t", &template(&blocks)).await;
        assert_eq!(run.status, RunStatus::Succeeded);
        // By looking, each block would take a second.
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    });
}
