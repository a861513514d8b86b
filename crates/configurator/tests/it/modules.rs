//! Hazard: nested modules lose values or change their types.

use configurator::run::RunStatus;
use serde_json::json;
use store::testing::run_test;

use super::harness::{ConfiguratorHarness, run_request};

const NESTED: &str = "
type: module
name: global
inputs: [{name: x, scope: general}]
outputs:
  - {name: through, value: $outer.y}
  - {name: text, value: 'got $outer.y'}
blocks:
  - {name: first, type: integration, integration: q.do, inputs: [global.x], outputs: [id, value], args: {name: first, value: {deep: [$global.x, 1.5, null]}}}
  - name: outer
    type: module
    inputs: [{name: a, value: $first.value}, {name: b, value: {both: [$first.id, $first.value]}}]
    outputs: [{name: y, value: $inner.z}]
    blocks:
      - name: inner
        type: module
        inputs: [{name: c, value: $outer.b}]
        outputs: [{name: z, value: $leaf.value}]
        blocks:
          - {name: leaf, type: integration, integration: q.do, inputs: [inner.c, global.x], outputs: [value], args: {name: leaf, value: $inner.c}}
";

#[test]
fn values_pass_nested_modules_with_their_types() {
    run_test(async {
        let world = ConfiguratorHarness::fresh().await;
        let (_role, _stop) = world.start();
        let _integration = world.spawn_integration();
        let mut given = run_request("t", NESTED);
        given.general_inputs.insert("x".to_owned(), json!({"k": [true]}));
        let run_id = world.configurator.begin_run(given).await.unwrap();
        let run = world.wait_for_end(run_id).await;
        assert_eq!(run.status, RunStatus::Succeeded, "{run:?}");
        let value = json!({"deep": [{"k": [true]}, 1.5, null]});
        let both = json!({"both": ["id of first", value]});
        let export = run.to_export_json();
        assert_eq!(export["blocks"]["outer.inner.leaf"]["state"]["value"], both);
        assert_eq!(export["outputs"]["through"], both);
        assert_eq!(export["outputs"]["text"], format!("got {both}"));
    });
}
