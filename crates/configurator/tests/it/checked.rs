//! Hazard: a conformance kit that passes an integration with a fault, or fails one without.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use configurator::check::{Outcome, Place, Plan, Report, SoundTask, check};
use configurator::sdk::{Env, Handler, Handlers, Host, Request, TaskError, Terms};
use queue::fifo::{CHANNEL, FifoEngine, FifoError, FifoQueue, Message, NewMessage, PostgresFifo};
use queue_testing::emulator::{Emulator, engine_at};
use serde_json::{Value as Json, json};
use store::Notifications;
use store::testing::run;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::harness::{PATIENCE, World};

/// What is wrong with an integration.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fault {
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

/// An integration without the SDK: receives, answers, deletes; unless it has a fault.
struct Own {
    fault: Fault,
    tasks: Arc<dyn FifoQueue>,
    answers: Arc<dyn FifoQueue>,
    calls: AtomicUsize,
}

impl Own {
    async fn start(engine: &dyn FifoEngine, fault: Fault) -> JoinHandle<()> {
        let tasks = engine.open("q-test.fifo").await.unwrap();
        let answers = engine.open("configshop-test.fifo").await.unwrap();
        let own = Self { fault, tasks, answers, calls: AtomicUsize::new(0) };
        tokio::spawn(async move { own.work().await })
    }

    async fn work(self) {
        let mut held: Option<Message> = None;
        loop {
            let visibility = Some(Duration::from_millis(1500));
            for message in self.tasks.receive(10, Duration::from_secs(5), visibility).await.unwrap() {
                match self.carry_out(&message) {
                    Some(Some(answer)) if self.fault == Fault::DeletesFirst => {
                        self.delete(&message).await;
                        self.answer(&message, &answer).await;
                    }
                    // Deleted unanswered, and answered together with the next one: after it.
                    Some(Some(answer)) if self.overtakes(&message) && held.is_none() => {
                        self.delete(&message).await;
                        held = Some(Message { body: answer, ..message });
                    }
                    Some(Some(answer)) => {
                        self.answer(&message, &answer).await;
                        if let Some(held) = held.take() {
                            self.answer(&held, &held.body).await;
                        }
                        if self.fault != Fault::NeverDeletes {
                            self.delete(&message).await;
                        }
                    }
                    Some(None) => self.delete(&message).await,
                    None if self.fault == Fault::DiesOfBadJson && !message.body.contains("mood") => return,
                    None => {}
                }
            }
        }
    }

    /// A slow machine may be later than the message's visibility: then it comes again.
    async fn delete(&self, message: &Message) {
        match self.tasks.delete(&message.receipt).await {
            Err(FifoError::Expired) => {}
            other => other.unwrap(),
        }
    }

    fn overtakes(&self, message: &Message) -> bool {
        self.fault == Fault::Overtakes && message.group.ends_with("/order")
    }

    /// What is answered (if anything), or `None` if the message is to come again.
    fn carry_out(&self, message: &Message) -> Option<Option<String>> {
        let body: Option<Json> = message.body.parse().ok();
        let found = match &body {
            Some(body) => body["block_id"].as_i64(),
            None => number(&message.body),
        };
        let failure =
            |id: i64, code: &str| json!({"block_id": id, "state": {}, "error": {"code": code, "args": {}}});
        let Some(id) = found else {
            return match self.fault {
                Fault::BlocksItsGroup => None,
                _ => Some(None),
            };
        };
        let Some(body) = body else {
            return match self.fault {
                Fault::IgnoresBadJson => Some(None),
                Fault::DiesOfBadJson => None,
                _ => Some(Some(failure(id, "VALIDATION_ERROR").to_string())),
            };
        };
        let answer = match (body["task_type"].as_str(), body["params"]["mood"].as_str()) {
            (Some("set"), Some("temporary")) => match self.fault {
                Fault::AnswersForNow => failure(id, "UNAVAILABLE"),
                Fault::ForgetsWhatFails => return Some(None),
                _ => return None,
            },
            (Some("set"), Some("permanent")) if self.fault == Fault::SaysNoCode => {
                json!({"block_id": id, "error": "bad"})
            }
            (Some("set"), Some("permanent")) => failure(id, "OWN"),
            (Some("set"), _) => {
                let calls = self.calls.fetch_add(1, Ordering::SeqCst);
                let id_of = if self.fault == Fault::CountsCalls { calls } else { 7 };
                json!({"block_id": id, "state": {"id": id_of}})
            }
            _ => failure(id, "VALIDATION_ERROR"),
        };
        Some(Some(answer.to_string()))
    }

    async fn answer(&self, message: &Message, body: &str) {
        let answer = NewMessage {
            group: message.group.clone(),
            deduplication: format!("answer/{}/{}", message.id, message.receives),
            body: body.to_owned(),
            attributes: [("JobName".to_owned(), "integration".to_owned())].into(),
        };
        self.answers.send(answer).await.unwrap();
    }
}

/// The number in a body that is no JSON.
fn number(body: &str) -> Option<i64> {
    let digits = body.split("\"block_id\":").nth(1)?.trim_start();
    digits.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

fn plan(patience: Duration) -> Plan {
    Plan {
        queue: "q".to_owned(),
        env: Env::Test,
        answers: "configshop".to_owned(),
        task: Some(SoundTask { task_type: "set".to_owned(), args: json!({"mood": "good"}) }),
        permanent_args: Some(json!({"mood": "permanent"})),
        temporary_args: Some(json!({"mood": "temporary"})),
        patience,
    }
}

async fn report(world: &World, plan: Plan) -> Report {
    let pool = &world.configurator.pool;
    let (notifications, _) = Notifications::start(pool.clone(), vec![CHANNEL]);
    let place = Place::Postgres(PostgresFifo::new(pool.clone(), notifications));
    check(place, plan, |_| {}).await.unwrap()
}

/// The checks that have ended so.
fn those(report: &Report, outcome: Outcome) -> Vec<&'static str> {
    report.checks.iter().filter(|checked| checked.outcome == outcome).map(|checked| checked.name).collect()
}

/// Messages in the integration's queue.
async fn tasks(world: &World) -> i64 {
    let count = "SELECT count(*) FROM fifo_messages m JOIN fifo_queues q USING (queue_id) WHERE q.name = 'q-test.fifo'";
    sqlx::query_scalar(count).fetch_one(&world.configurator.pool).await.unwrap()
}

async fn until_nothing_is_left(world: &World) {
    let by_then = tokio::time::Instant::now() + PATIENCE;
    while tasks(world).await > 0 {
        assert!(tokio::time::Instant::now() < by_then, "messages of the checks are left in the queue");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

struct Set;

impl Handler for Set {
    const TASK_TYPE: &'static str = "set";
    type Params = Json;
    type State = Json;

    async fn handle(&self, request: Request<Json>) -> Result<Json, TaskError> {
        match request.params["mood"].as_str() {
            Some("temporary") => Err(TaskError::Temporary("not now".to_owned())),
            Some("permanent") => Err(TaskError::permanent("OWN", json!({"why": "because"}))),
            _ => Ok(json!({"id": 7})),
        }
    }
}

#[test]
fn the_sdk_keeps_to_the_protocol_also_where_a_configurator_is_at_work() {
    run(async {
        let world = World::fresh().await;
        let (_role, _stop) = world.start();
        // From now on answers are received in this environment.
        let empty = "type: module\nname: global\nblocks: []\n";
        world.run("t", empty).await;
        let terms = Terms { again: Duration::from_millis(50), ..Terms::default() };
        let host = Host::new(world.engine.clone()).working(terms);
        tokio::spawn(host.run(Handlers::default().with(Set), "q", Env::Test, CancellationToken::new()));
        let report = report(&world, plan(Duration::from_secs(20))).await;
        assert!(report.holds(), "{report:#?}");
        assert_eq!(those(&report, Outcome::Skipped), Vec::<&str>::new());
        assert_eq!(report.count(Outcome::Ok), 16);
        assert_eq!(report.left_behind, 0);
    });
}

#[test]
fn what_needs_no_task_is_checked_without_one() {
    run(async {
        let world = World::fresh().await;
        let host = Host::new(world.engine.clone());
        tokio::spawn(host.run(Handlers::default().with(Set), "q", Env::Test, CancellationToken::new()));
        let plan =
            Plan { task: None, permanent_args: None, temporary_args: None, ..plan(Duration::from_secs(20)) };
        let report = report(&world, plan).await;
        assert!(report.holds(), "{report:#?}");
        let skipped = ["idempotent", "late-message", "permanent-error", "temporary-error", "delete"];
        assert_eq!(those(&report, Outcome::Skipped), skipped);
    });
}

/// Each fault is found, by the checks that are about it and by no other.
#[test]
fn seeded_faults_are_found() {
    run(async {
        let table: [(Fault, &[&str]); 11] = [
            (Fault::None, &[]),
            (Fault::IgnoresBadJson, &["malformed-body"]),
            (Fault::DeletesFirst, &["answer-before-delete"]),
            (Fault::CountsCalls, &["idempotent", "duplicate-delivery", "late-message"]),
            (Fault::BlocksItsGroup, &["no-block-id"]),
            (Fault::DiesOfBadJson, &["malformed-body"]),
            (Fault::AnswersForNow, &["temporary-error"]),
            (Fault::ForgetsWhatFails, &["temporary-error"]),
            (Fault::SaysNoCode, &["answer-format"]),
            (Fault::Overtakes, &["group-order"]),
            (Fault::NeverDeletes, &["group-order", "answer-before-delete"]),
        ];
        // Each on queues of its own, all at once: they wait more than they work.
        let running: Vec<_> = table
            .into_iter()
            .map(|(fault, expected)| {
                tokio::spawn(async move {
                    let world = World::fresh().await;
                    let integration = Own::start(world.engine.as_ref(), fault).await;
                    let report = report(&world, plan(Duration::from_secs(6))).await;
                    let failed = those(&report, Outcome::Failed);
                    for name in expected {
                        assert!(failed.contains(name), "{fault:?}: {report:#?}");
                    }
                    if fault != Fault::NeverDeletes {
                        assert_eq!(failed, *expected, "{fault:?}: {report:#?}");
                    }
                    let skipped: &[&str] = match fault {
                        Fault::DiesOfBadJson => &["no-block-id", "delete", "answer-format"],
                        _ => &[],
                    };
                    if fault != Fault::NeverDeletes {
                        assert_eq!(those(&report, Outcome::Skipped), skipped, "{fault:?}: {report:#?}");
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

/// Where deletes cannot be seen, the kit races the integration.
#[test]
fn on_sqs_the_sdk_passes_and_a_delete_before_the_answer_is_found() {
    run(async {
        let emulator = Emulator::start().await;
        let engine: Arc<dyn FifoEngine> = Arc::new(emulator.engine().await);
        for (queue, env) in
            [("configshop", Env::Dev), ("q", Env::Dev), ("configshop", Env::Test), ("q", Env::Test)]
        {
            configurator::queues::ensure(engine.as_ref(), queue, env).await.unwrap();
        }
        let checked = async |env| {
            let place = Place::Sqs(Arc::new(engine_at(emulator.port).await));
            let plan = Plan { env, temporary_args: None, ..plan(Duration::from_secs(20)) };
            check(place, plan, |_| {}).await.unwrap()
        };
        let host = Host::new(engine.clone());
        tokio::spawn(host.run(Handlers::default().with(Set), "q", Env::Dev, CancellationToken::new()));
        let report = checked(Env::Dev).await;
        assert!(report.holds() && report.left_behind == 0, "{report:#?}");
        assert_eq!(those(&report, Outcome::Skipped), ["temporary-error"]);
        let _own = Own::start(engine.as_ref(), Fault::DeletesFirst).await;
        let report = checked(Env::Test).await;
        assert_eq!(those(&report, Outcome::Failed), ["answer-before-delete"], "{report:#?}");
    });
}
