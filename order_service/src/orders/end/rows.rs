//! What is written of ended attempts, and the fate of their jobs.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use chrono::{DateTime, Utc};
use queue::{Backoff, NewJob, Settle, bury_new_in_tx, enqueue_in_tx, fence_lanes, settle_in_tx};
use sqlx::PgConnection;
use store::{Result, mutant, storable};
use uuid::Uuid;

use crate::orders::{End, Origin, QUEUE, Work};

/// Columns of ended attempts, for `unnest`, in the order of their ids: replicas lock rows in one direction only.
struct Columns {
    ids: Vec<i32>,
    states: Vec<i16>,
    attempts: Vec<i32>,
    started: Vec<Option<DateTime<Utc>>>,
    external: Vec<Option<DateTime<Utc>>>,
    reasons: Vec<Option<String>>,
}

impl Columns {
    fn of(mut ended: Vec<&(Work, End)>) -> Self {
        ended.sort_unstable_by_key(|(work, _)| work.order_id);
        let attempt = |(work, end): &&(Work, End)| {
            let counted = !matches!(end, End::Waiting { counted: false, .. });
            (work.attempts + u32::from(counted)).cast_signed()
        };
        let reason = |(_, end): &&(Work, End)| match end {
            End::Finished => None,
            End::Waiting { reason, .. } | End::Failed { reason } | End::GivenUp { reason, .. } => {
                Some(reason.clone())
            }
        };
        Self {
            ids: ended.iter().map(|(work, _)| work.order_id).collect(),
            states: ended.iter().map(|(work, _)| work.state as i16).collect(),
            attempts: ended.iter().map(attempt).collect(),
            started: ended.iter().map(|(work, _)| work.started_at).collect(),
            external: ended.iter().map(|(work, _)| work.external_at).collect(),
            reasons: ended.iter().map(reason).collect(),
        }
    }
}

pub(super) async fn finish(
    connection: &mut PgConnection,
    ended: &[(Work, End)],
    done: &[Uuid],
) -> Result<()> {
    let columns = Columns::of(ended.iter().filter(|(_, end)| *end == End::Finished).collect());
    sqlx::query(FINISH)
        .bind(&columns.ids)
        .bind(&columns.attempts)
        .bind(&columns.started)
        .bind(&columns.external)
        .bind(done)
        .execute(connection)
        .await?;
    Ok(())
}

/// What came of settling.
#[derive(Debug, Default)]
pub(super) struct Settled {
    /// When the first of the waiting ones is due.
    pub(super) soonest: Option<Duration>,
    /// Orders that were to be given up, and wait on: their data is stored.
    spared: HashSet<i32>,
}

impl Settled {
    /// Turns the ends that were handed in into those that were written.
    pub(super) fn amend(&self, ended: &mut [(Work, End)]) {
        for (work, end) in ended {
            *end = written(work, end, &self.spared);
        }
    }
}

/// The end that is written for this one: who is given up fails, or waits on.
fn written(work: &Work, end: &End, spared: &HashSet<i32>) -> End {
    match end {
        End::GivenUp { reason, .. } if spared.contains(&work.order_id) => {
            End::Waiting { reason: reason.clone(), counted: true }
        }
        End::GivenUp { after, reason } => {
            let after = humantime::format_duration(*after);
            End::Failed { reason: storable(&format!("given up after {after}: {reason}")) }
        }
        end => end.clone(),
    }
}

/// Writes every kind of end and settles the jobs.
pub(super) async fn settle(
    connection: &mut PgConnection,
    ended: &[(Work, End)],
    done: &[Uuid],
    backoff: Backoff,
) -> Result<Settled> {
    fence_lanes(connection, ended.iter().map(|(work, _)| &**work.origin.lane())).await?;
    finish(connection, ended, done).await?;
    let with_data = wait(connection, ended).await?;
    let given_up = ended.iter().filter(|(_, end)| matches!(end, End::GivenUp { .. }));
    let spares = |id: &i32| with_data.contains(id) && !mutant("given_up_with_data");
    let spared = given_up.map(|(work, _)| work.order_id).filter(spares).collect();
    let ended: Vec<(Work, End)> =
        ended.iter().map(|(work, end)| (work.clone(), written(work, end, &spared))).collect();
    fail(connection, &ended).await?;
    let (mut settled, mut enqueued, mut buried) = (Vec::new(), BTreeMap::new(), Vec::new());
    for (work, end) in &ended {
        match (&work.origin, fate(work, end, with_data.contains(&work.order_id), backoff)) {
            (Origin::Retried(job), fate) => settled.push(((**job).clone(), fate)),
            (Origin::Accepted(batch), Settle::Retry { delay, reason, counted, .. }) => {
                let job =
                    NewJob { delay, attempts: u32::from(counted), last_error: Some(reason), ..new_job(work) };
                let lane = enqueued.entry(batch.lane.id).or_insert_with(|| (&batch.lane, Vec::new()));
                lane.1.push(job);
            }
            (Origin::Accepted(_), Settle::Bury { reason }) => buried.push((new_job(work), reason)),
            (Origin::Accepted(_), Settle::Complete) => {}
        }
    }
    let mut soonest = settle_in_tx(connection, QUEUE, &settled).await?;
    bury_new_in_tx(connection, QUEUE, &buried).await?;
    // Into the lane each was accepted under: this process claims them again, unless it dies.
    for (lane, jobs) in enqueued.into_values() {
        soonest = soonest.into_iter().chain(jobs.iter().map(|job| job.delay)).min();
        enqueue_in_tx(connection, QUEUE, Some(lane), &jobs).await?;
    }
    Ok(Settled { soonest, spared })
}

/// What becomes of an order's job. `has_data`: its row has the data, perhaps since a moment ago.
fn fate(work: &Work, end: &End, has_data: bool, backoff: Backoff) -> Settle {
    match end {
        End::Finished => Settle::Complete,
        End::Failed { reason } | End::GivenUp { reason, .. } => Settle::Bury { reason: reason.clone() },
        End::Waiting { reason, counted } => {
            let before = match &work.origin {
                Origin::Accepted(_) => 0,
                Origin::Retried(job) => job.failures(),
            };
            // The callback came while the attempt was being given up: nothing to wait for.
            let delay = match has_data && work.data.is_none() {
                true => Duration::ZERO,
                false if *counted => backoff.random_delay(before + 1),
                // Nothing was tried: the breaker keeps the rate down, and the order must not miss the peer's return.
                false => backoff.random_delay(before.min(2)),
            };
            let if_hurried = backoff.random_delay(1);
            Settle::Retry { delay, if_hurried, reason: reason.clone(), counted: *counted }
        }
    }
}

fn new_job(work: &Work) -> NewJob {
    NewJob { key: Some(work.order_id.to_string()), ..NewJob::default() }
}

async fn fail(connection: &mut PgConnection, ended: &[(Work, End)]) -> Result<()> {
    let columns = Columns::of(ended.iter().filter(|(_, end)| matches!(end, End::Failed { .. })).collect());
    if columns.ids.is_empty() {
        return Ok(());
    }
    sqlx::query(FAIL)
        .bind(&columns.ids)
        .bind(&columns.attempts)
        .bind(&columns.started)
        .bind(&columns.external)
        .bind(&columns.reasons)
        .execute(connection)
        .await?;
    Ok(())
}

/// The orders that have their data, of those that wait or may be given up. The row locks order this with the storing of
/// callbacks: a callback that is not seen here will see the job.
async fn wait(connection: &mut PgConnection, ended: &[(Work, End)]) -> Result<HashSet<i32>> {
    let waits = |(_, end): &&(Work, End)| matches!(end, End::Waiting { .. } | End::GivenUp { .. });
    let columns = Columns::of(ended.iter().filter(waits).collect());
    if columns.ids.is_empty() {
        return Ok(HashSet::new());
    }
    let with_data: Vec<i32> = sqlx::query_scalar(WAIT)
        .bind(&columns.ids)
        .bind(&columns.attempts)
        .bind(&columns.started)
        .bind(&columns.external)
        .bind(&columns.reasons)
        .bind(&columns.states)
        .fetch_all(connection)
        .await?;
    Ok(with_data.into_iter().collect())
}

const FINISH: &str = "SELECT finish_orders($1, $2, $3, $4, $5) -- finish_orders";
const FAIL: &str = "SELECT fail_orders($1, $2, $3, $4, $5) -- fail_orders";
const WAIT: &str = "SELECT * FROM wait_orders($1, $2, $3, $4, $5, $6) -- wait_orders";
