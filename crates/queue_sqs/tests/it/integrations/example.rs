//! Hazard: an example of the documentation that does not do what the text promises.

#[path = "../../../../../docs/examples/balance_handlers.rs"]
mod balance_handlers;

use configurator::run::RunStatus;
use configurator::sdk::{Env, IntegrationWorker};
use serde_json::json;
use store::testing::run_test;
use tokio_util::sync::CancellationToken;

use super::harness::ConfiguratorHarness;

const TEMPLATE: &str = "
type: module
name: global
blocks:
  - {name: service, type: integration, integration: balance.set_service, outputs: [id], args: {service_id: 5}}
  - {name: price, type: integration, integration: balance.set_price, inputs: [service.id], args: {service: $service.id, price: 2.5}}
";

#[test]
fn the_example_in_rust_carries_out_a_template() {
    run_test(async {
        let world = ConfiguratorHarness::fresh().await;
        let (_role, _stop) = world.start();
        let host = IntegrationWorker::new(world.engine.clone());
        configurator::queues::ensure_integration_queue(world.engine.as_ref(), "balance", Env::Test)
            .await
            .unwrap();
        tokio::spawn(host.run(
            balance_handlers::balance_handlers(),
            "balance",
            Env::Test,
            CancellationToken::new(),
        ));
        let run = world.run("example", TEMPLATE).await;
        assert_eq!(run.status, RunStatus::Succeeded);
        assert_eq!(
            run.to_export_json()["blocks"]["price"]["state"],
            json!({"service": 1005, "price": 2.5})
        );
        let run = world.run("example", &TEMPLATE.replace("2.5", "-1")).await;
        assert_eq!(run.status, RunStatus::Failed);
        assert_eq!(run.blocks[1].error.as_ref().unwrap().args["field"], "price");
    });
}
