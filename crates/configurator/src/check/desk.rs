//! What checks work with: sending tasks, well made or not, and waiting for answers.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use queue::fifo::{FifoError, FifoQueue, NewMessage, Sent, Trace};
use serde_json::{Map, Value as Json, json};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::collect::{Came, Collected};
use super::{Place, Plan};
use crate::protocol::{Action, Answer, CHECK_IDS, JOB_NAME};

/// Numbers that one run of the kit may use.
const NUMBERS: i64 = 1 << 20;
/// A type of task that no integration has.
const NOBODYS: &str = "no_such_task_type";

/// The kit at work.
pub(super) struct Desk {
    pub(super) place: Place,
    pub(super) plan: Plan,
    pub(super) tasks: Arc<dyn FifoQueue>,
    collected: Arc<Collected>,
    collecting: JoinHandle<()>,
    stop: CancellationToken,
    /// What groups and deduplication ids of this run of the kit begin with.
    pub(super) mark: String,
    next: AtomicI64,
    /// What was sent, by the number it has or would have.
    sent: Mutex<Vec<(i64, Sent)>>,
}

/// A task that was sent.
pub(super) struct Shot {
    /// Its number.
    pub(super) number: i64,
    pub(super) sent: Sent,
}

impl Drop for Desk {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Desk {
    pub(super) async fn open(place: Place, plan: Plan) -> Result<Self, FifoError> {
        let engine = place.engine();
        let tasks = engine.open(&plan.env.queue(&plan.queue)).await?;
        let answers = engine.open(&plan.env.queue(&plan.answers)).await?;
        let random = Uuid::new_v4();
        let span = CHECK_IDS.end - CHECK_IDS.start - NUMBERS;
        let first = CHECK_IDS.start + (random.as_u128() % span.unsigned_abs() as u128) as i64;
        let mark = format!("check/{}", &random.simple().to_string()[..12]);
        let collected = Arc::new(Collected::new(first..first + NUMBERS, mark.clone()));
        let stop = CancellationToken::new();
        let collecting = tokio::spawn(collected.clone().run(answers, stop.clone()));
        let (next, sent) = (AtomicI64::new(first), Mutex::default());
        Ok(Self { place, plan, tasks, collected, collecting, stop, mark, next, sent })
    }

    /// Ends when no answer is in hand any more.
    pub(super) async fn close(mut self) {
        self.stop.cancel();
        let _ = (&mut self.collecting).await;
    }

    /// A number that was not used yet.
    pub(super) fn number(&self) -> i64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Whether anything was ever answered.
    pub(super) fn has_answers(&self) -> bool {
        *self.collected.counted().borrow() > 0
    }

    pub(super) fn collected(&self) -> &Collected {
        &self.collected
    }

    /// The type of task and args that checks use for which any answer is good enough.
    pub(super) fn any_task(&self) -> (&str, Json) {
        match &self.plan.task {
            Some(task) => (&task.task_type, task.args.clone()),
            None => (NOBODYS, json!({})),
        }
    }

    /// A type of task that no integration has.
    pub(super) fn nobodys(&self) -> &'static str {
        NOBODYS
    }

    /// Sends a body to a group of this check.
    pub(super) async fn send(
        &self,
        group: &str,
        number: i64,
        job: &str,
        body: String,
    ) -> Result<Shot, FifoError> {
        let message = NewMessage {
            group: format!("{}/{group}", self.mark),
            deduplication: format!("{}/{}", self.mark, Uuid::new_v4().simple()),
            body,
            attributes: BTreeMap::from([(JOB_NAME.to_owned(), job.to_owned())]),
        };
        let sent = self.tasks.send(message).await?;
        self.sent.lock().unwrap_or_else(PoisonError::into_inner).push((number, sent.clone()));
        Ok(Shot { number, sent })
    }

    /// Sends a well-made task.
    pub(super) async fn task(
        &self,
        group: &str,
        number: i64,
        (task, args): (&str, &Json),
        action: Action,
        state: Option<&Map<String, Json>>,
    ) -> Result<Shot, FifoError> {
        let mut body =
            json!({"block_id": number, "task_type": task, "action": action.name(), "params": args});
        if let Some(state) = state {
            body["state"] = Json::Object(state.clone());
        }
        self.send(group, number, task, body.to_string()).await
    }

    /// The answers to a number, as soon as there are so many; fewer if they do not come in time.
    pub(super) async fn answers(&self, number: i64, count: usize, within: Duration) -> Vec<Came> {
        let by_then = Instant::now() + within;
        let mut counted = self.collected.counted();
        loop {
            counted.borrow_and_update();
            let came = self.collected.to(number);
            if came.len() >= count || timeout_at(by_then, counted.changed()).await.is_err() {
                return came;
            }
        }
    }

    /// The first answer to a number, if one comes in time.
    pub(super) async fn answer(&self, number: i64) -> Option<Came> {
        self.answers(number, 1, self.plan.patience).await.into_iter().next()
    }

    /// Sends a well-made task to a group of its own, and waits for the answer.
    pub(super) async fn ask(
        &self,
        group: &str,
        task: (&str, &Json),
        action: Action,
        state: Option<&Map<String, Json>>,
    ) -> Result<(Shot, Option<Came>), FifoError> {
        let shot = self.task(group, self.number(), task, action, state).await?;
        let came = self.answer(shot.number).await;
        Ok((shot, came))
    }

    /// What has become of a message, where that can be seen.
    pub(super) async fn trace(&self, shot: &Shot) -> Result<Option<Trace>, FifoError> {
        match &self.place {
            Place::Postgres(engine) => engine.trace(self.tasks.name(), &shot.sent).await.map(Some),
            Place::Sqs(_) => Ok(None),
        }
    }

    /// In words, what has become of a message that was not answered.
    pub(super) async fn unanswered(&self, shot: &Shot) -> Result<String, FifoError> {
        let within = humantime::format_duration(self.plan.patience);
        Ok(match self.trace(shot).await? {
            Some(Trace::There(0)) => format!("not answered within {within}: never received"),
            Some(Trace::There(n)) => {
                format!("not answered within {within}: received {n} times, and still there")
            }
            Some(Trace::Deleted(_)) => "deleted without an answer".to_owned(),
            Some(Trace::Lost) | None => format!("not answered within {within}"),
        })
    }

    /// Messages that were sent and not answered.
    pub(super) fn open_messages(&self) -> Vec<Sent> {
        let sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        let open = sent.iter().filter(|(number, _)| self.collected.to(*number).is_empty());
        open.map(|(_, sent)| sent.clone()).collect()
    }

    /// A message is gone: nobody needs to take it back.
    pub(super) fn settled(&self, id: &str) {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner).retain(|(_, sent)| sent.id != id);
    }
}

impl Came {
    /// What it says; `None` if it does not even say what it answers.
    pub(super) fn read(&self) -> Option<Answer> {
        Answer::read(&self.text)
    }

    /// In words.
    pub(super) fn words(&self) -> String {
        match self.read().map(|answer| answer.outcome) {
            Some(Ok(_)) => "a success".to_owned(),
            Some(Err(failure)) => format!("the error {}", failure.code),
            None => "something that is no answer".to_owned(),
        }
    }

    /// The state, if it is a success.
    pub(super) fn state(&self) -> Option<Map<String, Json>> {
        self.read()?.outcome.ok()
    }

    /// Whether it is a failure.
    pub(super) fn is_error(&self) -> bool {
        self.read().is_some_and(|answer| answer.outcome.is_err())
    }

    /// Whether both say the same, but for the number.
    pub(super) fn same_as(&self, other: &Came) -> bool {
        let outcome = |came: &Came| came.read().map(|answer| answer.outcome);
        outcome(self) == outcome(other)
    }
}
