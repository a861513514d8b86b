//! Hazard: messages that integrations without the SDK cannot handle: here one that parses and
//! writes them by hand, on the Postgres engine, without SQS.

use std::sync::Arc;
use std::time::Duration;

use configurator::RunId;
use configurator::http::failed_run_json;
use configurator::run::RunStatus;
use queue::fifo::{FifoMessage, FifoQueue, NewFifoMessage};
use serde_json::{Value as Json, json};
use store::testing::run_test;

use super::harness::{ConfiguratorHarness, run_request};

const TWO: &str = "
type: module
name: global
inputs: [{name: id, scope: general, required: true}]
outputs: [{name: service, value: $service.id}]
blocks:
  - {name: service, type: integration, integration: q.set_service, inputs: [global.id], outputs: [{name: id}], args: {service_id: $global.id}}
  - name: price
    type: integration
    integration: q.set_price
    inputs: [service.id]
    args: {nested: {list: [1, $service.id, 'service $service.id costs $$5']}}
";

struct ForeignIntegration {
    tasks: Arc<dyn FifoQueue>,
    answers: Arc<dyn FifoQueue>,
}

impl ForeignIntegration {
    async fn open(world: &ConfiguratorHarness) -> Self {
        let open = async |name| world.engine.open_queue(name).await.unwrap();
        Self { tasks: open("q-test.fifo").await, answers: open("configshop-test.fifo").await }
    }

    /// The next task: its message, its `block_id`, and the rest of the body.
    async fn next_task(&self) -> (FifoMessage, i64, Json) {
        let message = self.tasks.receive(1, Duration::from_secs(20), None).await.unwrap().remove(0);
        let mut body: Json = message.body.parse().unwrap();
        let number = body.as_object_mut().unwrap().remove("block_id").unwrap();
        (message, number.as_i64().unwrap(), body)
    }

    async fn send_answer(&self, message: &FifoMessage, n: u32, body: Json) {
        let answer = NewFifoMessage {
            group: message.group.clone(),
            deduplication_id: format!("{}/{n}", message.id),
            body: body.to_string(),
            attributes: [("JobName".to_owned(), "integration".to_owned())].into(),
        };
        self.answers.send(answer).await.unwrap();
    }

    async fn answer_and_delete(&self, message: &FifoMessage, number: i64, state: Json) {
        self.send_answer(message, 0, json!({"block_id": number, "state": state})).await;
        self.tasks.delete(&message.receipt).await.unwrap();
    }
}

async fn begin(world: &ConfiguratorHarness, template: &str, id: i64) -> RunId {
    let mut run_request = run_request("exact", template);
    run_request.general_inputs.insert("id".to_owned(), json!(id));
    world.configurator.begin_run(run_request).await.unwrap()
}

#[test]
fn what_yaml_calls_a_string_is_sent_as_one_and_braces_end_a_reference() {
    run_test(async {
        let world = ConfiguratorHarness::fresh().await;
        let (_role, _stop) = world.start();
        let foreign = ForeignIntegration::open(&world).await;
        let args = "mode: 0644, zip: 01067, at: 12:30:45, day: 2001-01-01, big: 1_000, on: yes, n: 1.50, f: '${global.id}.txt'";
        let one = &TWO[..TWO.find("  - name: price").unwrap()];
        begin(&world, &one.replace("service_id: $global.id", args), 5).await;
        let (_, _, body) = foreign.next_task().await;
        let expected = json!({"mode": "0644", "zip": "01067", "at": "12:30:45", "day": "2001-01-01", "big": "1_000",
            "on": "yes", "n": 1.5, "f": "5.txt"});
        assert_eq!(body["params"], expected);
    });
}

#[test]
fn messages_states_and_export_are_exactly_as_written() {
    run_test(async {
        let world = ConfiguratorHarness::fresh().await;
        let (_role, _stop) = world.start();
        let foreign = ForeignIntegration::open(&world).await;
        let run_id = begin(&world, TWO, 5).await;
        let (first, service, body) = foreign.next_task().await;
        assert_eq!(
            body,
            json!({"task_type": "set_service", "action": "create", "params": {"service_id": 5}})
        );
        assert_eq!(first.attributes, [("JobName".to_owned(), "set_service".to_owned())].into());
        assert!((1..1 << 53).contains(&service));
        foreign
            .answer_and_delete(&first, service, json!({"id": 17, "memory": {"kept": [true]}}))
            .await;
        let (second, price, body) = foreign.next_task().await;
        let params =
            |id: i64| json!({"nested": {"list": [1, id, format!("service {id} costs $5")]}});
        assert_eq!(
            body,
            json!({"task_type": "set_price", "action": "create", "params": params(17)})
        );
        assert_ne!(price, service);
        assert_ne!(first.group, second.group);
        // Two different answers: the first one counts.
        foreign.send_answer(&second, 1, json!({"block_id": price, "state": {"price": 5}})).await;
        foreign.send_answer(&second, 2, json!({"block_id": price, "state": {"price": 99}})).await;
        foreign.tasks.delete(&second.receipt).await.unwrap();
        let export = world.wait_for_end(run_id).await.to_export_json();
        let state = json!({"id": 17, "memory": {"kept": [true]}});
        let blocks = json!({"service": {"state": state}, "price": {"state": {"price": 5}}});
        let expected = json!({"run_id": run_id, "template_name": "exact", "env": "test", "status": "succeeded",
            "blocks": blocks, "outputs": {"service": 17}});
        assert_eq!(export, expected);

        let run_id = begin(&world, TWO, 6).await;
        let (again, service, body) = foreign.next_task().await;
        let update = json!({"task_type": "set_service", "action": "update", "params": {"service_id": 6}, "state": state});
        assert_eq!((&body, &again.group), (&update, &first.group));
        // A temporary error: not answered, and the same message is redelivered.
        foreign.tasks.change_visibility(&again.receipt, Duration::ZERO).await.unwrap();
        let (again, same, body) = foreign.next_task().await;
        assert_eq!((same, again.receive_count, &body), (service, 2, &update));
        foreign.answer_and_delete(&again, service, json!({"id": 18})).await;
        let (refused, price, body) = foreign.next_task().await;
        assert_eq!((&body["params"], &body["state"]), (&params(18), &json!({"price": 5})));
        // A permanent error is answered.
        let error = json!({"code": "OWN_CODE", "args": {"why": "because"}});
        foreign
            .send_answer(&refused, 0, json!({"block_id": price, "state": {}, "error": error}))
            .await;
        foreign.tasks.delete(&refused.receipt).await.unwrap();
        let run = world.wait_for_end(run_id).await;
        assert_eq!(run.status, RunStatus::Failed);
        let shown = failed_run_json(&run);
        assert_eq!(shown["blocks"]["price"], json!({"status": "failed", "error": error}));
        assert_eq!(
            (&shown["error"]["code"], &shown["error"]["args"]["block"]),
            (&json!("OWN_CODE"), &json!("price"))
        );

        let one = &TWO[..TWO.find("  - name: price").unwrap()];
        let run_id = begin(&world, one, 6).await;
        let (kept, service, body) = foreign.next_task().await;
        assert_eq!((&body["action"], &body["state"]), (&json!("update"), &json!({"id": 18})));
        foreign.answer_and_delete(&kept, service, json!({"id": 18})).await;
        let (gone, price, body) = foreign.next_task().await;
        // Params and state of the last success: an error changes nothing that is stored.
        let delete = json!({"task_type": "set_price", "action": "delete", "params": params(17), "state": {"price": 5}});
        assert_eq!((body, &gone.group), (delete, &second.group));
        foreign.answer_and_delete(&gone, price, json!({})).await;
        assert_eq!(world.wait_for_end(run_id).await.status, RunStatus::Succeeded);
        let left = foreign.tasks.receive(10, Duration::ZERO, None).await.unwrap();
        assert!(left.is_empty(), "{left:?}");
    });
}
