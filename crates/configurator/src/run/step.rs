//! One step of an instance: takes what was answered, gives up what is late, sends what is ready; one transaction.
//!
//! Round trips: lock, answers, numbers, the changes (six at most), version. Locks: the instance's row, then what it writes.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use queue::fifo::SendInTx;
use sqlx::{PgConnection, PgPool};
use store::Result;
use uuid::Uuid;

use super::late::{self, Received};
use super::load::{Loaded, object};
use super::progress::{Frame, Progress};
use super::status::RunStatus;
use super::write::{self, Changes, end_run, touch};
use crate::protocol::{Action, Answer, Failure};

/// Answers taken, and messages sent, in one transaction at most.
const MOST: usize = 500;

/// What a step has come to.
pub(super) enum Stepped {
    /// Somebody else is changing it.
    Busy,
    /// Another driver carries it on.
    Taken,
    /// What is remembered of the instance does not hold any more, or never did.
    Reload,
    /// Done; what follows is to be remembered.
    Done(Box<Next>),
}

pub(super) struct Next {
    pub(super) version: i64,
    /// `None`: the run has ended.
    pub(super) progress: Option<Progress>,
    /// When there is something to do again.
    pub(super) wake_at: Option<DateTime<Utc>>,
    /// Whether there may be more to do at once.
    pub(super) more: bool,
    pub(super) ended: Option<RunStatus>,
}

impl Next {
    /// Nothing was changed.
    fn idle(version: i64) -> Self {
        Self { version, progress: None, wake_at: None, more: false, ended: None }
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
    run: Option<(Arc<Frame>, Progress, Arc<Changes>)>,
}

pub(super) async fn step(terms: &Terms, instance_id: i64, loaded: &Loaded) -> Result<Stepped> {
    let run = loaded.run.as_ref();
    let run = run.map(|run| (run.frame.clone(), run.progress.clone(), run.pending.clone()));
    let remembered = Arc::new(Remembered { instance_id, version: loaded.version, run });
    let inner = terms.clone();
    store::run_tx(&terms.pool, "configurator_step", move |connection| {
        let (terms, remembered) = (inner.clone(), remembered.clone());
        Box::pin(async move { in_tx(connection, &terms, &remembered).await })
    })
    .await
}

async fn in_tx(connection: &mut PgConnection, terms: &Terms, known: &Remembered) -> Result<Stepped> {
    let locked: Option<(i64, Option<Uuid>, DateTime<Utc>)> = sqlx::query_as(
        "SELECT version, driver, now() FROM configurator_instances WHERE instance_id = $1
         FOR NO KEY UPDATE SKIP LOCKED -- lock_instance",
    )
    .bind(known.instance_id)
    .fetch_optional(&mut *connection)
    .await?;
    let Some((version, driver, now)) = locked else { return Ok(Stepped::Busy) };
    if version != known.version {
        let others = driver.is_some_and(|driver| driver != terms.driver);
        return Ok(if others { Stepped::Taken } else { Stepped::Reload });
    }
    let received = answers(connection, known.instance_id).await?;
    let full = received.len() >= MOST;
    let run = known.run.as_ref();
    let awaited = |received: &Received| {
        let run = run.filter(|(frame, ..)| frame.run_id == received.run_id);
        run.and_then(|(_, progress, _)| progress.step_of(received.answer.block_id))
    };
    let (mut on_time, mut late) = (Vec::new(), Vec::new());
    for received in received {
        match awaited(&received) {
            Some(step) => on_time.push((step, received.answer)),
            None => late.push(received),
        }
    }
    if !late.is_empty() {
        late::take(connection, known.instance_id, &late).await?;
    }
    let stored_changed = !late.is_empty();
    let Some((frame, progress, pending)) = run else {
        if late.is_empty() {
            return Ok(Stepped::Done(Box::new(Next::idle(version))));
        }
        touch(connection, known.instance_id, None, Some(terms.driver)).await?;
        let next = Next { version: version + 1, progress: None, wake_at: None, more: full, ended: None };
        return Ok(Stepped::Done(Box::new(next)));
    };
    let idle = on_time.is_empty() && late.is_empty() && pending.is_empty() && progress.ready.is_empty();
    let mut progress = progress.clone();
    let mut changes = Changes::default();
    for (step, answer) in on_time {
        progress.answer(frame, step, answer, &mut changes);
    }
    if terms.may_time_out && !full {
        progress.time_out(frame, now, &mut changes);
    }
    // A run without blocks has ended before anything was done.
    if idle && changes.is_empty() && progress.result(frame).is_none() {
        let wake_at = progress.next_deadline();
        return Ok(Stepped::Done(Box::new(Next {
            progress: Some(progress),
            wake_at,
            ..Next::idle(version)
        })));
    }
    // What late answers have stored decides on how blocks are sent.
    if !stored_changed {
        let numbers = numbers(connection, progress.ready.len()).await?;
        progress.send(frame, now, numbers, &mut changes);
    }
    if !pending.is_empty() {
        write::write(connection, frame, pending, terms.sender.as_ref()).await?;
    }
    store::fail_point("configurator_before_write");
    write::write(connection, frame, &changes, terms.sender.as_ref()).await?;
    let next = conclude(connection, frame, progress, (version, now), full, terms.driver).await?;
    store::fail_point("configurator_before_commit");
    Ok(if stored_changed { Stepped::Reload } else { Stepped::Done(Box::new(next)) })
}

async fn conclude(
    connection: &mut PgConnection,
    frame: &Frame,
    progress: Progress,
    (version, now): (i64, DateTime<Utc>),
    full: bool,
    driver: Uuid,
) -> Result<Next> {
    let ended = progress.result(frame);
    let more = full || !progress.ready.is_empty();
    let wake_at = if more { Some(now) } else { progress.next_deadline() };
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
        version: version + 1,
        progress: ended.is_none().then_some(progress),
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
