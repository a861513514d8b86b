//! Hazard: a conformance kit that passes a faulty integration, or fails a correct one.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use configurator::check::{
    IntegrationCheckEngine, IntegrationCheckOptions, IntegrationCheckOutcome,
    IntegrationCheckReport, IntegrationCheckTask, check_integration,
};
use configurator::sdk::{
    BlockRequest, Env, IntegrationError, IntegrationHandler, IntegrationHandlers,
    IntegrationOptions, IntegrationWorker,
};
use queue::fifo::{
    FIFO_CHANNEL, FifoEngine, FifoError, FifoMessage, FifoQueue, NewFifoMessage, PgFifo,
};
use queue_testing::emulator::{SqsEmulator, sqs_engine_at};
use serde_json::{Value as Json, json};
use store::PgNotificationHub;
use store::testing::run_test;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::harness::{ConfiguratorHarness, TEST_TIMEOUT};

/// The seeded fault of an integration.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum IntegrationFault {
    None,
    IgnoresBadJson,
    DeletesFirst,
    CountsCalls,
    BlocksItsGroup,
    DiesOfBadJson,
    AnswersForNow,
    ForgetsWhatFails,
    SaysNoCode,
    Overtakes,
    NeverDeletes,
}

/// An integration without the SDK: receives, answers, deletes, except for its fault.
struct FaultyIntegration {
    fault: IntegrationFault,
    tasks: Arc<dyn FifoQueue>,
    answers: Arc<dyn FifoQueue>,
    calls: AtomicUsize,
}

impl FaultyIntegration {
    async fn start(engine: &dyn FifoEngine, fault: IntegrationFault) -> JoinHandle<()> {
        let tasks = engine.open_queue("q-test.fifo").await.unwrap();
        let answers = engine.open_queue("configshop-test.fifo").await.unwrap();
        let own = Self { fault, tasks, answers, calls: AtomicUsize::new(0) };
        tokio::spawn(async move { own.work().await })
    }

    async fn work(self) {
        let mut held: Option<FifoMessage> = None;
        loop {
            let visibility = Some(Duration::from_millis(1500));
            for message in self.tasks.receive(10, Duration::from_secs(5), visibility).await.unwrap()
            {
                match self.carry_out(&message) {
                    Some(Some(answer)) if self.fault == IntegrationFault::DeletesFirst => {
                        self.delete(&message).await;
                        self.answer(&message, &answer).await;
                    }
                    // Deleted without an answer, which is sent after that to the next message.
                    Some(Some(answer)) if self.overtakes(&message) && held.is_none() => {
                        self.delete(&message).await;
                        held = Some(FifoMessage { body: answer, ..message });
                    }
                    Some(Some(answer)) => {
                        self.answer(&message, &answer).await;
                        if let Some(held) = held.take() {
                            self.answer(&held, &held.body).await;
                        }
                        if self.fault != IntegrationFault::NeverDeletes {
                            self.delete(&message).await;
                        }
                    }
                    Some(None) => self.delete(&message).await,
                    None if self.fault == IntegrationFault::DiesOfBadJson
                        && !message.body.contains("mood") =>
                    {
                        return;
                    }
                    None => {}
                }
            }
        }
    }

    /// On a slow machine the visibility timeout may have ended: then the message is redelivered.
    async fn delete(&self, message: &FifoMessage) {
        match self.tasks.delete(&message.receipt).await {
            Err(FifoError::ReceiptExpired) => {}
            other => other.unwrap(),
        }
    }

    fn overtakes(&self, message: &FifoMessage) -> bool {
        self.fault == IntegrationFault::Overtakes && message.group.ends_with("/order")
    }

    /// `None` to leave the message for redelivery, `Some(None)` to delete it without an answer.
    fn carry_out(&self, message: &FifoMessage) -> Option<Option<String>> {
        let body: Option<Json> = message.body.parse().ok();
        let found = match &body {
            Some(body) => body["block_id"].as_i64(),
            None => number(&message.body),
        };
        let failure = |id: i64, code: &str| json!({"block_id": id, "state": {}, "error": {"code": code, "args": {}}});
        let Some(id) = found else {
            return match self.fault {
                IntegrationFault::BlocksItsGroup => None,
                _ => Some(None),
            };
        };
        let Some(body) = body else {
            return match self.fault {
                IntegrationFault::IgnoresBadJson => Some(None),
                IntegrationFault::DiesOfBadJson => None,
                _ => Some(Some(failure(id, "VALIDATION_ERROR").to_string())),
            };
        };
        let answer = match (body["task_type"].as_str(), body["params"]["mood"].as_str()) {
            (Some("set"), Some("temporary")) => match self.fault {
                IntegrationFault::AnswersForNow => failure(id, "UNAVAILABLE"),
                IntegrationFault::ForgetsWhatFails => return Some(None),
                _ => return None,
            },
            (Some("set"), Some("permanent")) if self.fault == IntegrationFault::SaysNoCode => {
                json!({"block_id": id, "error": "bad"})
            }
            (Some("set"), Some("permanent")) => failure(id, "OWN"),
            (Some("set"), _) => {
                let calls = self.calls.fetch_add(1, Ordering::SeqCst);
                let id_of = if self.fault == IntegrationFault::CountsCalls { calls } else { 7 };
                json!({"block_id": id, "state": {"id": id_of}})
            }
            _ => failure(id, "VALIDATION_ERROR"),
        };
        Some(Some(answer.to_string()))
    }

    async fn answer(&self, message: &FifoMessage, body: &str) {
        let answer = NewFifoMessage {
            group: message.group.clone(),
            deduplication_id: format!("answer/{}/{}", message.id, message.receive_count),
            body: body.to_owned(),
            attributes: [("JobName".to_owned(), "integration".to_owned())].into(),
        };
        self.answers.send(answer).await.unwrap();
    }
}

/// The `block_id` in a body that is not valid JSON.
fn number(body: &str) -> Option<i64> {
    let digits = body.split("\"block_id\":").nth(1)?.trim_start();
    digits.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

fn check_options(patience: Duration) -> IntegrationCheckOptions {
    IntegrationCheckOptions {
        queue: "q".to_owned(),
        env: Env::Test,
        answer_queue: "configshop".to_owned(),
        task: Some(IntegrationCheckTask {
            task_type: "set".to_owned(),
            args: json!({"mood": "good"}),
        }),
        permanent_args: Some(json!({"mood": "permanent"})),
        temporary_args: Some(json!({"mood": "temporary"})),
        answer_timeout: patience,
    }
}

async fn check_report(
    world: &ConfiguratorHarness,
    plan: IntegrationCheckOptions,
) -> IntegrationCheckReport {
    let pool = &world.configurator.pool;
    let (notifications, _) = PgNotificationHub::start(pool.clone(), vec![FIFO_CHANNEL]);
    let place = IntegrationCheckEngine::Postgres(PgFifo::new(pool.clone(), notifications));
    check_integration(place, plan, |_| {}).await.unwrap()
}

/// The names of the checks with this outcome.
fn checks_with_outcome(
    report: &IntegrationCheckReport,
    outcome: IntegrationCheckOutcome,
) -> Vec<&'static str> {
    report
        .results
        .iter()
        .filter(|checked| checked.outcome == outcome)
        .map(|checked| checked.name)
        .collect()
}

/// The number of messages in the integration's queue.
async fn tasks(world: &ConfiguratorHarness) -> i64 {
    let count = "SELECT count(*) FROM fifo_messages m JOIN fifo_queues q USING (queue_id) WHERE q.name = 'q-test.fifo'";
    sqlx::query_scalar(count).fetch_one(&world.configurator.pool).await.unwrap()
}

async fn until_nothing_is_left(world: &ConfiguratorHarness) {
    let by_then = tokio::time::Instant::now() + TEST_TIMEOUT;
    while tasks(world).await > 0 {
        assert!(
            tokio::time::Instant::now() < by_then,
            "messages of the checks are left in the queue"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

struct SetHandler;

impl IntegrationHandler for SetHandler {
    const TASK_TYPE: &'static str = "set";
    type Params = Json;
    type State = Json;

    async fn handle(&self, request: BlockRequest<Json>) -> Result<Json, IntegrationError> {
        match request.params["mood"].as_str() {
            Some("temporary") => Err(IntegrationError::Temporary("not now".to_owned())),
            Some("permanent") => Err(IntegrationError::permanent("OWN", json!({"why": "because"}))),
            _ => Ok(json!({"id": 7})),
        }
    }
}

#[test]
fn the_sdk_keeps_to_the_protocol_also_where_a_configurator_is_at_work() {
    run_test(async {
        let world = ConfiguratorHarness::fresh().await;
        let (_role, _stop) = world.start();
        // From this run on, answers are received in this environment.
        let empty = "type: module\nname: global\nblocks: []\n";
        world.run("t", empty).await;
        let terms = IntegrationOptions {
            retry_delay: Duration::from_millis(50),
            ..IntegrationOptions::default()
        };
        let host = IntegrationWorker::new(world.engine.clone()).with_options(terms);
        tokio::spawn(host.run(
            IntegrationHandlers::default().with_handler(SetHandler),
            "q",
            Env::Test,
            CancellationToken::new(),
        ));
        let report = check_report(&world, check_options(Duration::from_secs(20))).await;
        assert!(report.has_passed(), "{report:#?}");
        assert_eq!(
            checks_with_outcome(&report, IntegrationCheckOutcome::Skipped),
            Vec::<&str>::new()
        );
        assert_eq!(report.count_outcome(IntegrationCheckOutcome::Ok), 16);
        assert_eq!(report.left_behind, 0);
    });
}

#[test]
fn what_needs_no_task_is_checked_without_one() {
    run_test(async {
        let world = ConfiguratorHarness::fresh().await;
        let host = IntegrationWorker::new(world.engine.clone());
        tokio::spawn(host.run(
            IntegrationHandlers::default().with_handler(SetHandler),
            "q",
            Env::Test,
            CancellationToken::new(),
        ));
        let plan = IntegrationCheckOptions {
            task: None,
            permanent_args: None,
            temporary_args: None,
            ..check_options(Duration::from_secs(20))
        };
        let report = check_report(&world, plan).await;
        assert!(report.has_passed(), "{report:#?}");
        let skipped =
            ["idempotent", "late-message", "permanent-error", "temporary-error", "delete"];
        assert_eq!(checks_with_outcome(&report, IntegrationCheckOutcome::Skipped), skipped);
    });
}

/// Each fault is found by the checks that target it, and by no other.
#[test]
fn seeded_faults_are_found() {
    run_test(async {
        let table: [(IntegrationFault, &[&str]); 11] = [
            (IntegrationFault::None, &[]),
            (IntegrationFault::IgnoresBadJson, &["malformed-body"]),
            (IntegrationFault::DeletesFirst, &["answer-before-delete"]),
            (IntegrationFault::CountsCalls, &["idempotent", "duplicate-delivery", "late-message"]),
            (IntegrationFault::BlocksItsGroup, &["no-block-id"]),
            (IntegrationFault::DiesOfBadJson, &["malformed-body"]),
            (IntegrationFault::AnswersForNow, &["temporary-error"]),
            (IntegrationFault::ForgetsWhatFails, &["temporary-error"]),
            (IntegrationFault::SaysNoCode, &["answer-format"]),
            (IntegrationFault::Overtakes, &["group-order"]),
            (IntegrationFault::NeverDeletes, &["group-order", "answer-before-delete"]),
        ];
        // Concurrent, each on separate queues: the tests mostly wait.
        let running: Vec<_> = table
            .into_iter()
            .map(|(fault, expected)| {
                tokio::spawn(async move {
                    let world = ConfiguratorHarness::fresh().await;
                    let integration = FaultyIntegration::start(world.engine.as_ref(), fault).await;
                    let report = check_report(&world, check_options(Duration::from_secs(6))).await;
                    let failed = checks_with_outcome(&report, IntegrationCheckOutcome::Failed);
                    for name in expected {
                        assert!(failed.contains(name), "{fault:?}: {report:#?}");
                    }
                    if fault != IntegrationFault::NeverDeletes {
                        assert_eq!(failed, *expected, "{fault:?}: {report:#?}");
                    }
                    let skipped: &[&str] = match fault {
                        IntegrationFault::DiesOfBadJson => {
                            &["no-block-id", "delete", "answer-format"]
                        }
                        _ => &[],
                    };
                    if fault != IntegrationFault::NeverDeletes {
                        assert_eq!(
                            checks_with_outcome(&report, IntegrationCheckOutcome::Skipped),
                            skipped,
                            "{fault:?}: {report:#?}"
                        );
                        assert_eq!(report.left_behind, 0, "{fault:?}: {report:#?}");
                        until_nothing_is_left(&world).await;
                    }
                    integration.abort();
                })
            })
            .collect();
        for one in running {
            one.await.unwrap();
        }
    });
}

/// On SQS deletes are invisible, and the kit races the integration.
#[test]
fn on_sqs_the_sdk_passes_and_a_delete_before_the_answer_is_found() {
    run_test(async {
        let emulator = SqsEmulator::start().await;
        let engine: Arc<dyn FifoEngine> = Arc::new(emulator.engine().await);
        for (queue, env) in
            [("configshop", Env::Dev), ("q", Env::Dev), ("configshop", Env::Test), ("q", Env::Test)]
        {
            configurator::queues::ensure_integration_queue(engine.as_ref(), queue, env)
                .await
                .unwrap();
        }
        let checked = async |env| {
            let place = IntegrationCheckEngine::Sqs(Arc::new(sqs_engine_at(emulator.port).await));
            let plan = IntegrationCheckOptions {
                env,
                temporary_args: None,
                ..check_options(Duration::from_secs(20))
            };
            check_integration(place, plan, |_| {}).await.unwrap()
        };
        let host = IntegrationWorker::new(engine.clone());
        tokio::spawn(host.run(
            IntegrationHandlers::default().with_handler(SetHandler),
            "q",
            Env::Dev,
            CancellationToken::new(),
        ));
        let report = checked(Env::Dev).await;
        assert!(report.has_passed() && report.left_behind == 0, "{report:#?}");
        assert_eq!(
            checks_with_outcome(&report, IntegrationCheckOutcome::Skipped),
            ["temporary-error"]
        );
        let _own = FaultyIntegration::start(engine.as_ref(), IntegrationFault::DeletesFirst).await;
        let report = checked(Env::Test).await;
        assert_eq!(
            checks_with_outcome(&report, IntegrationCheckOutcome::Failed),
            ["answer-before-delete"],
            "{report:#?}"
        );
    });
}
