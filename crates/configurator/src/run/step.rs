//! One step of an instance: takes what was answered, gives up what is late, sends what is ready; one transaction.
//!
//! Round trips: lock, answers, numbers, the changes (six at most), version. Locks: the instance's row, then what it writes.
//! What is remembered of the run is changed in place: a copy for each step would make long chains quadratic. If the
//! transaction fails, or is tried again, it is loaded anew.

use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, Utc};
use queue::fifo::SendInTx;
use sqlx::{PgConnection, PgPool};
use store::Result;
use uuid::Uuid;

use super::given_up::{explain, settle};
use super::late::{self, Received};
use super::load::{Loaded, Run, object};
use super::status::RunStatus;
use super::write::{self, Changes, end_run, touch};
use crate::protocol::{Action, Answer, Failure};

/// Answers taken, and messages sent, in one transaction at most.
const MOST: usize = 500;

/// What a step has come to.
pub(super) enum Stepped {
    /// Somebody else is changing it; what was remembered still is.
    Busy(Box<Loaded>),
    /// Another driver carries it on.
    Taken,
    /// What is remembered of the instance does not hold any more, or never did.
    Reload,
    /// Done; what follows is to be remembered.
    Done(Box<Next>),
}

pub(super) struct Next {
    pub(super) version: i64,
    /// `None`: there is none, or it has ended.
    pub(super) run: Option<Run>,
    /// When there is something to do again.
    pub(super) wake_at: Option<DateTime<Utc>>,
    /// Whether there may be more to do at once.
    pub(super) more: bool,
    pub(super) ended: Option<RunStatus>,
}

impl Next {
    /// Nothing was changed.
    fn idle(version: i64, run: Option<Run>) -> Self {
        Self { version, run, wake_at: None, more: false, ended: None }
    }
}

/// What a step needs beside what it remembers.
#[derive(Clone)]
pub(super) struct Terms {
    pub(super) pool: PgPool,
    pub(super) sender: Arc<dyn SendInTx>,
    /// Whether what has not been answered in time is given up.
    pub(super) may_time_out: bool,
    /// Who this process is.
    pub(super) driver: Uuid,
}

struct Remembered {
    instance_id: i64,
    version: i64,
    /// Taken out by the attempt that changes it.
    run: Mutex<Option<Run>>,
    has_run: bool,
}

impl Remembered {
    fn run(&self) -> std::sync::MutexGuard<'_, Option<Run>> {
        self.run.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One step of what was loaded.
pub(super) async fn step(terms: &Terms, instance_id: i64, loaded: Loaded) -> Result<Stepped> {
    let Loaded { version, run } = loaded;
    let has_run = run.is_some();
    let remembered = Arc::new(Remembered { instance_id, version, run: Mutex::new(run), has_run });
    let inner = terms.clone();
    let shared = remembered.clone();
    let stepped = store::run_tx(&terms.pool, "configurator_step", move |connection| {
        let (terms, remembered) = (inner.clone(), shared.clone());
        Box::pin(async move { in_tx(connection, &terms, &remembered).await })
    })
    .await?;
    Ok(match stepped {
        Some(stepped) => stepped,
        None => Stepped::Busy(Box::new(Loaded { version, run: remembered.run().take() })),
    })
}

/// `None`: somebody else holds the instance's row.
async fn in_tx(connection: &mut PgConnection, terms: &Terms, known: &Remembered) -> Result<Option<Stepped>> {
    let locked: Option<(i64, Option<Uuid>, DateTime<Utc>)> = sqlx::query_as(
        "SELECT version, driver, now() FROM configurator_instances WHERE instance_id = $1
         FOR NO KEY UPDATE SKIP LOCKED -- lock_instance",
    )
    .bind(known.instance_id)
    .fetch_optional(&mut *connection)
    .await?;
    let Some((version, driver, now)) = locked else { return Ok(None) };
    if version != known.version {
        let others = driver.is_some_and(|driver| driver != terms.driver);
        return Ok(Some(if others { Stepped::Taken } else { Stepped::Reload }));
    }
    let run = known.run().take();
    if known.has_run && run.is_none() {
        // Changed by an attempt that was not committed.
        return Ok(Some(Stepped::Reload));
    }
    let received = answers(connection, known.instance_id).await?;
    let full = received.len() >= MOST;
    let (on_time, late) = sort(run.as_ref(), received);
    if !late.is_empty() {
        late::take(connection, known.instance_id, &late).await?;
    }
    let failed = on_time.iter().filter(|(_, answer)| answer.outcome.is_err()).map(|(_, answer)| answer);
    let settled: Vec<i64> =
        late.iter().map(|late| &late.answer).chain(failed).map(|answer| answer.block_id).collect();
    settle(connection, &settled).await?;
    let moment = Moment { version, now, full, stored_changed: !late.is_empty() };
    let stepped = match run {
        Some(run) => go_on(connection, terms, run, on_time, &moment).await?,
        None if late.is_empty() => Stepped::Done(Box::new(Next::idle(version, None))),
        None => {
            touch(connection, known.instance_id, None, Some(terms.driver)).await?;
            Stepped::Done(Box::new(Next { more: full, ..Next::idle(version + 1, None) }))
        }
    };
    Ok(Some(stepped))
}

/// What a step finds.
struct Moment {
    version: i64,
    now: DateTime<Utc>,
    /// There may be more answers.
    full: bool,
    /// By late answers: what is remembered of what is stored does not hold any more.
    stored_changed: bool,
}

/// Answers that the run waits for, with their steps; and others.
fn sort(run: Option<&Run>, received: Vec<Received>) -> (Vec<(usize, Answer)>, Vec<Received>) {
    let (mut on_time, mut late) = (Vec::new(), Vec::new());
    for received in received {
        let run = run.filter(|run| run.frame.run_id == received.run_id);
        match run.and_then(|run| run.progress.step_of(received.answer.block_id)) {
            Some(step) => on_time.push((step, received.answer)),
            None => late.push(received),
        }
    }
    (on_time, late)
}

/// Carries a run on, and writes what has changed.
async fn go_on(
    connection: &mut PgConnection,
    terms: &Terms,
    run: Run,
    on_time: Vec<(usize, Answer)>,
    moment: &Moment,
) -> Result<Stepped> {
    let Run { frame, mut progress, pending } = run;
    let nothing_new = on_time.is_empty() && !moment.stored_changed;
    let idle = nothing_new && pending.is_empty() && progress.ready.is_empty();
    let mut changes = Changes::default();
    for (step, answer) in on_time {
        progress.answer(&frame, step, answer, &mut changes);
    }
    if terms.may_time_out && !moment.full {
        progress.time_out(&frame, moment.now, &mut changes);
        explain(connection, &frame, &mut changes, terms.sender.as_ref()).await?;
    }
    // A run without blocks has ended before anything was done.
    if idle && changes.is_empty() && progress.result(&frame).is_none() {
        let wake_at = progress.next_deadline();
        let run = Run { frame, progress, pending };
        return Ok(Stepped::Done(Box::new(Next { wake_at, ..Next::idle(moment.version, Some(run)) })));
    }
    // What late answers have stored decides on how blocks are sent.
    if !moment.stored_changed {
        let numbers = numbers(connection, progress.ready.len()).await?;
        progress.send(&frame, moment.now, numbers, &mut changes);
    }
    if !pending.is_empty() {
        write::write(connection, &frame, &pending, terms.sender.as_ref()).await?;
    }
    store::fail_point("configurator_before_write");
    write::write(connection, &frame, &changes, terms.sender.as_ref()).await?;
    let run = Run { frame, progress, pending: Changes::default() };
    let next = conclude(connection, run, moment, terms.driver).await?;
    store::fail_point("configurator_before_commit");
    Ok(if moment.stored_changed { Stepped::Reload } else { Stepped::Done(Box::new(next)) })
}

async fn conclude(connection: &mut PgConnection, run: Run, moment: &Moment, driver: Uuid) -> Result<Next> {
    let (frame, progress) = (&run.frame, &run.progress);
    let ended = progress.result(frame);
    let more = moment.full || !progress.ready.is_empty();
    let wake_at = if more { Some(moment.now) } else { progress.next_deadline() };
    let wake_at = if ended.is_some() { None } else { wake_at };
    if let Some((status, outputs)) = &ended {
        let outputs = serde_json::to_string(outputs).unwrap_or_default();
        end_run(connection, frame.run_id, *status, Some(outputs)).await?;
        sqlx::query("SELECT pg_notify($1, $2) -- tell_end")
            .bind(super::RUNS_CHANNEL)
            .bind(format!("={}", frame.run_id))
            .execute(&mut *connection)
            .await?;
    }
    touch(connection, frame.instance_id, wake_at, Some(driver)).await?;
    Ok(Next {
        version: moment.version + 1,
        run: ended.is_none().then_some(run),
        wake_at,
        more,
        ended: ended.map(|(status, _)| status),
    })
}

#[derive(sqlx::FromRow)]
struct AnswerRow {
    block_id: i64,
    state: Option<String>,
    error_code: Option<String>,
    error_args: Option<String>,
    run_id: i64,
    name: String,
    integration: String,
    action: String,
}

async fn answers(connection: &mut PgConnection, instance_id: i64) -> Result<Vec<Received>> {
    let rows: Vec<AnswerRow> =
        sqlx::query_as(TAKE).bind(instance_id).bind(MOST as i32).fetch_all(connection).await?;
    let received = |row: AnswerRow| {
        let outcome = match row.error_code {
            Some(code) => {
                Err(Failure { code, args: row.error_args.map(|args| object(&args)).unwrap_or_default() })
            }
            None => Ok(row.state.map(|state| object(&state)).unwrap_or_default()),
        };
        Some(Received {
            answer: Answer { block_id: row.block_id, outcome },
            run_id: row.run_id,
            name: row.name,
            integration: row.integration,
            action: Action::parse(&row.action)?,
        })
    };
    Ok(rows.into_iter().filter_map(received).collect())
}

async fn numbers(connection: &mut PgConnection, ready: usize) -> Result<Vec<i64>> {
    if ready == 0 {
        return Ok(Vec::new());
    }
    let numbers = sqlx::query_scalar(
        "SELECT nextval('configurator_block_ids') FROM generate_series(1, $1) ORDER BY 1 -- block_ids",
    );
    Ok(numbers.bind(ready.min(MOST) as i32).fetch_all(connection).await?)
}

const TAKE: &str = "-- take_answers
WITH taken AS (
    DELETE FROM configurator_answers WHERE block_id = ANY (ARRAY(
        SELECT block_id FROM configurator_answers WHERE instance_id = $1 ORDER BY block_id LIMIT $2))
    RETURNING block_id, state, error_code, error_args
)
SELECT t.block_id, t.state, t.error_code, t.error_args, s.run_id, b.name, b.integration, s.action
FROM taken t
JOIN configurator_sends s USING (block_id)
JOIN configurator_run_blocks b ON b.run_id = s.run_id AND b.ordinal = s.ordinal";
