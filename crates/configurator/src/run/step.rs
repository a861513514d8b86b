//! One step of an instance, in one transaction: applies received answers, fails timed-out
//! blocks, sends ready ones.
//!
//! - Shape: at most 500 answers and 500 messages. The cached run is modified in place: a copy per
//!   step would make long chains quadratic. After a failed or retried attempt it is loaded again.
//! - Cost: round trips for the lock, the answers, the `block_id`s and the version, and up to six
//!   for the changes. Failures, late answers, timeouts and the end of a run add some.
//! - Lock order: the instance's row first, with `SKIP LOCKED`, then the rows it writes.
//! - Promise: answers are consumed, and messages sent, in the transaction
//!   that records their effect.

use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, Utc};
use queue::fifo::FifoTxSender;
use sqlx::{PgConnection, PgPool};
use store::Result;
use uuid::Uuid;

use super::given_up::{explain_given_up_blocks, mark_sends_settled};
use super::late::{self, ReceivedAnswer};
use super::load::{ActiveRun, InstanceSnapshot, parse_json_object};
use super::status::RunStatus;
use super::write::{self, RunChanges, end_run, notify_run_end, touch_instance};
use crate::ids::{BlockId, InstanceId, RunId};
use crate::protocol::{BlockAction, BlockAnswer, BlockFailure};

/// Maximum answers consumed, and messages sent, per transaction.
const MAX_MESSAGES_PER_STEP: usize = 500;

/// The result of a step.
pub(super) enum RunStepResult {
    /// Another transaction holds the instance's row lock; the snapshot is unchanged.
    Busy(Box<InstanceSnapshot>),
    /// Another driver has advanced the instance.
    TakenOver,
    /// The cached run is outdated, or has changes that were never committed.
    Reload,
    /// Committed; the new state of the cache.
    Done(Box<RunStepFollowUp>),
}

pub(super) struct RunStepFollowUp {
    pub(super) version: i64,
    /// `None` if no run is running.
    pub(super) run: Option<ActiveRun>,
    /// Next deadline of the run.
    pub(super) wake_at: Option<DateTime<Utc>>,
    /// Whether another step should follow immediately.
    pub(super) has_more: bool,
    pub(super) ended_status: Option<RunStatus>,
}

impl RunStepFollowUp {
    /// The result of a step without changes.
    fn unchanged(version: i64, run: Option<ActiveRun>) -> Self {
        Self { version, run, wake_at: None, has_more: false, ended_status: None }
    }
}

/// The parameters of a step that its instance does not determine.
#[derive(Clone)]
pub(super) struct RunStepOptions {
    pub(super) pool: PgPool,
    pub(super) sender: Arc<dyn FifoTxSender>,
    /// Whether overdue blocks fail.
    pub(super) may_time_out: bool,
    /// Identifies this process.
    pub(super) driver_id: Uuid,
}

struct SharedInstance {
    instance_id: InstanceId,
    version: i64,
    /// Taken by the attempt that modifies it.
    run: Mutex<Option<ActiveRun>>,
    has_run: bool,
}

impl SharedInstance {
    fn lock_run(&self) -> std::sync::MutexGuard<'_, Option<ActiveRun>> {
        self.run.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One step from a loaded snapshot.
pub(super) async fn step_instance(
    options: &RunStepOptions,
    instance_id: InstanceId,
    snapshot: InstanceSnapshot,
) -> Result<RunStepResult> {
    let InstanceSnapshot { version, run } = snapshot;
    let has_run = run.is_some();
    let instance = Arc::new(SharedInstance { instance_id, version, run: Mutex::new(run), has_run });
    let result = store::transaction("configurator_step", (options.clone(), instance.clone()))
        .run(&options.pool, |connection, (options, instance)| {
            Box::pin(step_in_tx(connection, options, instance))
        })
        .await?;
    Ok(match result {
        Some(stepped) => stepped,
        None => RunStepResult::Busy(Box::new(InstanceSnapshot {
            version,
            run: instance.lock_run().take(),
        })),
    })
}

/// `None` if another transaction holds the row lock.
async fn step_in_tx(
    connection: &mut PgConnection,
    options: &RunStepOptions,
    instance: &SharedInstance,
) -> Result<Option<RunStepResult>> {
    let locked: Option<(i64, Option<Uuid>, DateTime<Utc>)> = store::statement(
        "lock_instance",
        "SELECT version, driver, now() FROM configurator_instances WHERE instance_id = $1
         FOR NO KEY UPDATE SKIP LOCKED",
    )
    .bind(instance.instance_id)
    .fetch_optional(&mut *connection)
    .await?;
    let Some((version, driver, now)) = locked else { return Ok(None) };
    if version != instance.version {
        let others = driver.is_some_and(|driver| driver != options.driver_id);
        return Ok(Some(if others { RunStepResult::TakenOver } else { RunStepResult::Reload }));
    }
    let run = instance.lock_run().take();
    if instance.has_run && run.is_none() {
        // Modified by an earlier attempt that did not commit.
        return Ok(Some(RunStepResult::Reload));
    }
    let received = take_answers(connection, instance.instance_id).await?;
    let has_more_answers = received.len() >= MAX_MESSAGES_PER_STEP;
    let (on_time, late) = split_answers(run.as_ref(), received);
    if !late.is_empty() {
        late::apply_late_answers(connection, instance.instance_id, &late).await?;
    }
    let mut settled: Vec<BlockId> = late.iter().map(|late| late.answer.block_id).collect();
    let failed = on_time.iter().filter(|(_, answer)| answer.outcome.is_err());
    settled.extend(failed.map(|(_, answer)| answer.block_id));
    mark_sends_settled(connection, &settled).await?;
    let observation =
        StepObservation { version, now, has_more_answers, stored_changed: !late.is_empty() };
    let result = match run {
        Some(run) => advance_run(connection, options, run, on_time, &observation).await?,
        None if late.is_empty() => {
            RunStepResult::Done(Box::new(RunStepFollowUp::unchanged(version, None)))
        }
        None => {
            touch_instance(connection, instance.instance_id, None, Some(options.driver_id)).await?;
            RunStepResult::Done(Box::new(RunStepFollowUp {
                has_more: has_more_answers,
                ..RunStepFollowUp::unchanged(version + 1, None)
            }))
        }
    };
    Ok(Some(result))
}

/// The situation that a step finds under the lock.
struct StepObservation {
    version: i64,
    now: DateTime<Utc>,
    /// Whether more answers may be waiting.
    has_more_answers: bool,
    /// Whether late answers have changed stored blocks, so that the cached ones are outdated.
    stored_changed: bool,
}

/// Separates the answers that the run waits for, with their steps, from late ones.
fn split_answers(
    run: Option<&ActiveRun>,
    received: Vec<ReceivedAnswer>,
) -> (Vec<(usize, BlockAnswer)>, Vec<ReceivedAnswer>) {
    let (mut on_time, mut late) = (Vec::new(), Vec::new());
    for received in received {
        let run = run.filter(|run| run.context.run_id == received.run_id);
        match run.and_then(|run| run.progress.step_of_block(received.answer.block_id)) {
            Some(step) => on_time.push((step, received.answer)),
            None => late.push(received),
        }
    }
    (on_time, late)
}

/// Advances a run and writes the changes.
async fn advance_run(
    connection: &mut PgConnection,
    options: &RunStepOptions,
    run: ActiveRun,
    on_time: Vec<(usize, BlockAnswer)>,
    observation: &StepObservation,
) -> Result<RunStepResult> {
    let ActiveRun { context, mut progress, pending } = run;
    let nothing_new = on_time.is_empty() && !observation.stored_changed;
    let is_idle = nothing_new && pending.is_empty() && progress.ready_steps.is_empty();
    let mut changes = RunChanges::default();
    for (step, answer) in on_time {
        progress.apply_answer(&context, step, answer, &mut changes);
    }
    if options.may_time_out && !observation.has_more_answers {
        progress.expire_steps(&context, observation.now, &mut changes);
        explain_given_up_blocks(connection, &context, &mut changes, options.sender.as_ref())
            .await?;
    }
    // A run without blocks has a result without any change.
    if is_idle && changes.is_empty() && progress.run_result(&context).is_none() {
        let wake_at = progress.next_deadline();
        let run = ActiveRun { context, progress, pending };
        return Ok(RunStepResult::Done(Box::new(RunStepFollowUp {
            wake_at,
            ..RunStepFollowUp::unchanged(observation.version, Some(run))
        })));
    }
    // Sending depends on stored blocks, which late answers have just changed.
    if !observation.stored_changed {
        let block_ids = allocate_block_ids(connection, progress.ready_steps.len()).await?;
        progress.send_ready_steps(&context, observation.now, block_ids, &mut changes);
    }
    if !pending.is_empty() {
        write::write_changes(connection, &context, &pending, options.sender.as_ref()).await?;
    }
    store::fail_point("configurator_before_write");
    write::write_changes(connection, &context, &changes, options.sender.as_ref()).await?;
    let run = ActiveRun { context, progress, pending: RunChanges::default() };
    let next = conclude_step(connection, run, observation, options.driver_id).await?;
    store::fail_point("configurator_before_commit");
    Ok(if observation.stored_changed {
        RunStepResult::Reload
    } else {
        RunStepResult::Done(Box::new(next))
    })
}

async fn conclude_step(
    connection: &mut PgConnection,
    run: ActiveRun,
    observation: &StepObservation,
    driver_id: Uuid,
) -> Result<RunStepFollowUp> {
    let (context, progress) = (&run.context, &run.progress);
    let run_result = progress.run_result(context);
    let has_more = observation.has_more_answers || !progress.ready_steps.is_empty();
    let wake_at = if has_more { Some(observation.now) } else { progress.next_deadline() };
    let wake_at = if run_result.is_some() { None } else { wake_at };
    if let Some((status, outputs)) = &run_result {
        let outputs = serde_json::to_string(outputs).unwrap_or_default();
        end_run(connection, context.run_id, *status, Some(outputs)).await?;
        notify_run_end(connection, context.run_id).await?;
    }
    touch_instance(connection, context.instance_id, wake_at, Some(driver_id)).await?;
    Ok(RunStepFollowUp {
        version: observation.version + 1,
        run: run_result.is_none().then_some(run),
        wake_at,
        has_more,
        ended_status: run_result.map(|(status, _)| status),
    })
}

#[derive(store::FromRow)]
struct ReceivedAnswerRow {
    block_id: BlockId,
    state: Option<String>,
    error_code: Option<String>,
    error_args: Option<String>,
    run_id: RunId,
    name: String,
    integration: String,
    action: String,
}

impl ReceivedAnswerRow {
    /// `None` if the action is unknown.
    fn into_answer(self) -> Option<ReceivedAnswer> {
        let outcome = match self.error_code {
            Some(code) => Err(BlockFailure {
                code,
                args: self.error_args.map(|args| parse_json_object(&args)).unwrap_or_default(),
            }),
            None => Ok(self.state.map(|state| parse_json_object(&state)).unwrap_or_default()),
        };
        Some(ReceivedAnswer {
            answer: BlockAnswer { block_id: self.block_id, outcome },
            run_id: self.run_id,
            name: self.name,
            integration: self.integration,
            action: BlockAction::parse(&self.action)?,
        })
    }
}

async fn take_answers(
    connection: &mut PgConnection,
    instance_id: InstanceId,
) -> Result<Vec<ReceivedAnswer>> {
    let rows: Vec<ReceivedAnswerRow> = store::statement("take_answers", TAKE_ANSWERS_SQL)
        .bind(instance_id)
        .bind(MAX_MESSAGES_PER_STEP as i32)
        .fetch_all(connection)
        .await?;
    Ok(rows.into_iter().filter_map(ReceivedAnswerRow::into_answer).collect())
}

async fn allocate_block_ids(connection: &mut PgConnection, ready: usize) -> Result<Vec<BlockId>> {
    if ready == 0 {
        return Ok(Vec::new());
    }
    store::statement(
        "block_ids",
        "SELECT nextval('configurator_block_ids') FROM generate_series(1, $1) ORDER BY 1",
    )
    .bind(ready.min(MAX_MESSAGES_PER_STEP) as i32)
    .fetch_values(connection)
    .await
}

const TAKE_ANSWERS_SQL: &str = "WITH taken AS (
    DELETE FROM configurator_answers WHERE block_id = ANY (ARRAY(
        SELECT block_id FROM configurator_answers WHERE instance_id = $1 ORDER BY block_id LIMIT $2))
    RETURNING block_id, state, error_code, error_args
)
SELECT t.block_id, t.state, t.error_code, t.error_args, s.run_id, b.name, b.integration, s.action
FROM taken t
JOIN configurator_sends s USING (block_id)
JOIN configurator_run_blocks b ON b.run_id = s.run_id AND b.ordinal = s.ordinal";
