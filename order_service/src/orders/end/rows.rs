//! What is written of ended attempts, and the fate of their jobs.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use chrono::{DateTime, Utc};
use queue::{Backoff, NewJob, Settle, bury_new_in_tx, enqueue_in_tx, fence_lanes, settle_in_tx};
use sqlx::PgConnection;
use store::Result;
use uuid::Uuid;

use crate::orders::{Data, End, Origin, QUEUE, State, Work};

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
            End::Waiting { reason, .. } | End::Failed { reason } => Some(reason.clone()),
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

/// Writes every kind of end and settles the jobs; answers when the first of the waiting ones is due.
pub(super) async fn settle(
    connection: &mut PgConnection,
    ended: &[(Work, End)],
    done: &[Uuid],
    backoff: Backoff,
) -> Result<Option<Duration>> {
    fence_lanes(connection, ended.iter().map(|(work, _)| &**work.origin.lane())).await?;
    finish(connection, ended, done).await?;
    fail(connection, ended).await?;
    let with_data = wait(connection, ended).await?;
    let (mut settled, mut enqueued, mut buried) = (Vec::new(), BTreeMap::new(), Vec::new());
    for (work, end) in ended {
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
    Ok(soonest)
}

/// What becomes of an order's job. `has_data`: its row has the data, perhaps since a moment ago.
fn fate(work: &Work, end: &End, has_data: bool, backoff: Backoff) -> Settle {
    match end {
        End::Finished => Settle::Complete,
        End::Failed { reason } => Settle::Bury { reason: reason.clone() },
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
        .bind(State::Failed as i16)
        .execute(connection)
        .await?;
    Ok(())
}

/// The orders that have their data. The row locks order this with the storing of callbacks: a callback that is not
/// seen here will see the job.
async fn wait(connection: &mut PgConnection, ended: &[(Work, End)]) -> Result<HashSet<i32>> {
    let columns = Columns::of(ended.iter().filter(|(_, end)| matches!(end, End::Waiting { .. })).collect());
    if columns.ids.is_empty() {
        return Ok(HashSet::new());
    }
    let rows: Vec<(i32, i32, i32)> = sqlx::query_as(WAIT)
        .bind(&columns.ids)
        .bind(&columns.attempts)
        .bind(&columns.started)
        .bind(&columns.external)
        .bind(&columns.reasons)
        .bind(&columns.states)
        .fetch_all(connection)
        .await?;
    Ok(rows.into_iter().filter(|row| Data::stored(row.1, row.2).is_some()).map(|row| row.0).collect())
}

/// What is told of orders (`order_outcomes`) is one row, of those that this very statement ended.
const FINISH: &str = "-- finish_orders
WITH gone AS (
    DELETE FROM accepted_batches WHERE batch_id = ANY ($5)
), ended AS (
    UPDATE orders o
    SET state = 4, attempts = t.attempts, started_at = coalesce(o.started_at, t.started_at), external_at = t.external_at,
        finished_at = now(), last_error = NULL
    FROM unnest($1::int[], $2::int[], $3::timestamptz[], $4::timestamptz[])
        AS t (order_id, attempts, started_at, external_at)
    WHERE o.order_id = t.order_id AND o.state < 4 RETURNING o.order_id
)
INSERT INTO order_outcomes (processed) SELECT array_agg(order_id) FROM ended HAVING count(*) > 0";

const FAIL: &str = "-- fail_orders
WITH ended AS (
    UPDATE orders o
    SET state = $6, attempts = t.attempts, started_at = coalesce(o.started_at, t.started_at), external_at = t.external_at,
        failed_at = array_append(o.failed_at, now()), last_error = t.reason
    FROM unnest($1::int[], $2::int[], $3::timestamptz[], $4::timestamptz[], $5::text[])
        AS t (order_id, attempts, started_at, external_at, reason)
    WHERE o.order_id = t.order_id AND o.state < 4 RETURNING o.order_id, o.attempts, o.last_error
)
INSERT INTO order_outcomes (failed, attempts, reasons)
SELECT array_agg(order_id), array_agg(attempts), array_agg(coalesce(last_error, '')) FROM ended HAVING count(*) > 0";

const WAIT: &str = "-- wait_orders
UPDATE orders o
SET state = greatest(o.state, t.state), attempts = t.attempts, started_at = coalesce(o.started_at, t.started_at),
    external_at = t.external_at, last_error = t.reason
FROM unnest($1::int[], $2::int[], $3::timestamptz[], $4::timestamptz[], $5::text[], $6::smallint[])
    AS t (order_id, attempts, started_at, external_at, reason, state)
WHERE o.order_id = t.order_id AND o.state < 4
RETURNING o.order_id, o.storage_id, o.pickup_point_id";
