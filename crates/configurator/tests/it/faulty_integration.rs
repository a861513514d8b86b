//! Integrations for the conformance kit: a correct one, and some with seeded faults. Shared with the
//! tests of the crate `queue_sqs`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use configurator::check::{
    IntegrationCheckOptions, IntegrationCheckOutcome, IntegrationCheckReport, IntegrationCheckTask,
};
use configurator::sdk::{BlockRequest, Env, IntegrationError, IntegrationHandler};
use queue::fifo::{FifoEngine, FifoError, FifoMessage, FifoQueue, NewFifoMessage};
use serde_json::{Value as Json, json};
use tokio::task::JoinHandle;

/// The seeded fault of an integration.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IntegrationFault {
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
pub struct FaultyIntegration {
    fault: IntegrationFault,
    tasks: Arc<dyn FifoQueue>,
    answers: Arc<dyn FifoQueue>,
    calls: AtomicUsize,
}

impl FaultyIntegration {
    pub async fn start(engine: &dyn FifoEngine, fault: IntegrationFault) -> JoinHandle<()> {
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

/// A correct handler.
pub struct SetHandler;

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

pub fn check_options(patience: Duration) -> IntegrationCheckOptions {
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

/// The names of the checks with this outcome.
pub fn checks_with_outcome(
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
