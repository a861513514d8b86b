//! Ending attempts: finished orders in one statement for all that ended meanwhile; the others, and those from the retry
//! queue, in one transaction with their jobs.
//!
//! The process that holds an order's lane decides about it. Finishing needs no such proof: what it writes is true
//! whoever writes it, and is written once.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use chrono::{DateTime, Utc};
use queue::{Backoff, Jobs, NewJob, Settle, bury_new_in_tx, enqueue_in_tx, settle_in_tx};
use sqlx::{PgConnection, PgPool};
use store::{Coalescer, Error, Result, run, run_tx};
use uuid::Uuid;

use super::{Batch, Data, End, News, Origin, QUEUE, State, Told, Work, adopt};

/// When and how attempts are repeated.
#[derive(Debug, Clone, Copy)]
pub struct GiveUp {
    /// Waits between attempts.
    pub backoff: Backoff,
    /// How long after its first failed attempt an order is given up.
    pub after: Duration,
}

/// Tells those who wait for orders in this process.
pub type Tell = Arc<dyn Fn(&[Told]) + Send + Sync>;

/// Ends attempts.
#[derive(Clone)]
pub struct Ender {
    ended: Coalescer<(Work, End)>,
    doubtful: Coalescer<Uuid>,
}

struct Desk {
    pool: PgPool,
    jobs: Jobs,
    terms: GiveUp,
    tell: Tell,
}

impl Ender {
    /// Starts the writing task. `tell` hears of every order after its commit; of those this process may no longer
    /// decide about it hears nothing: [`super::load`] tells what became of them.
    pub fn start(pool: PgPool, jobs: Jobs, terms: GiveUp, tell: Tell) -> Self {
        let recovering = (pool.clone(), jobs.clone());
        let doubtful = Coalescer::spawn("recover_batches", 1024, 1024, move |batches| {
            let (pool, jobs) = recovering.clone();
            async move { adopt::recover(&pool, &jobs, batches).await }
        });
        let desk = Arc::new(Desk { pool, jobs, terms, tell });
        let ended = Coalescer::spawn("end_orders", 65_536, 8192, move |batch| {
            let desk = desk.clone();
            async move { desk.end(batch).await }
        });
        Self { ended, doubtful }
    }

    /// Hands an attempt in; it is written soon, for as long as that takes.
    pub async fn end(&self, work: Work, end: End) {
        self.ended.push((work, end)).await;
    }

    /// Waits until everything handed in so far is written.
    pub async fn drained(&self) {
        self.ended.drained().await;
        self.doubtful.drained().await;
    }

    /// Takes batches of which nobody knows whether they were stored: if they were, their orders become jobs.
    pub fn doubtful(&self) -> Coalescer<Uuid> {
        self.doubtful.clone()
    }
}

impl Desk {
    async fn end(&self, batch: Vec<(Work, End)>) {
        let emptied = |(work, _): &(Work, End)| match &work.origin {
            Origin::Accepted(batch) if batch.count_out() => Some(batch.clone()),
            _ => None,
        };
        let emptied: Vec<Arc<Batch>> = batch.iter().filter_map(emptied).collect();
        let is_plain =
            |(work, end): &(Work, End)| matches!((&work.origin, end), (Origin::Accepted(_), End::Finished));
        let decided = batch.into_iter().map(|(work, end)| self.decide(work, end));
        let (plain, other): (Vec<_>, Vec<_>) = decided.partition(is_plain);
        // A batch's row goes with the last of its orders, so in the later of the two writes.
        if !plain.is_empty() {
            let emptied = if other.is_empty() { removable(&emptied) } else { Arc::new([]) };
            self.finish_plain(Arc::new(plain), emptied).await;
        }
        if !other.is_empty() {
            self.settle(other, &emptied).await;
        }
    }

    /// What has failed for too long has failed for good.
    fn decide(&self, work: Work, end: End) -> (Work, End) {
        let End::Waiting { reason, .. } = &end else { return (work, end) };
        let Origin::Retried(job) = &work.origin else { return (work, end) };
        let waited = (Utc::now() - job.enqueued_at).to_std().unwrap_or_default();
        if waited < self.terms.after {
            return (work, end);
        }
        let reason = format!("given up after {}: {reason}", humantime::format_duration(self.terms.after));
        (work, End::Failed { reason })
    }

    async fn finish_plain(&self, ended: Arc<Vec<(Work, End)>>, done: Arc<[Uuid]>) {
        persist("finish_orders", || {
            let (ended, done) = (ended.clone(), done.clone());
            run(&self.pool, "finish_orders", move |connection| {
                let (ended, done) = (ended.clone(), done.clone());
                Box::pin(async move { finish(connection, &ended, &done).await })
            })
        })
        .await;
        self.tell_all(&ended);
    }

    async fn settle(&self, mut ended: Vec<(Work, End)>, emptied: &[Arc<Batch>]) {
        let backoff = self.terms.backoff;
        loop {
            ended.retain(|(work, _)| !self.is_left(work));
            let (held, done) = (Arc::new(ended), removable(emptied));
            let work = held.clone();
            let settled = run_tx(&self.pool, "settle_orders", move |connection| {
                let (work, done) = (work.clone(), done.clone());
                Box::pin(async move { settle_in(connection, &work, &done, backoff).await })
            });
            match settled.await {
                Ok(soonest) => {
                    self.tell_all(&held);
                    return soonest.into_iter().for_each(|delay| self.jobs.wake_in(delay));
                }
                Err(Error::Fenced { .. }) => {}
                Err(error) => {
                    tracing::warn!(%error, code = "UNAVAILABLE", "ending orders failed; trying again");
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            }
            ended = held.to_vec();
        }
    }

    /// Whether the order belongs to whoever took its lane over.
    fn is_left(&self, work: &Work) -> bool {
        if !work.origin.lane().is_lost() {
            return false;
        }
        if let Origin::Accepted(batch) = &work.origin {
            batch.left.store(true, Ordering::Release);
        }
        tracing::info!(order_id = work.order_id, "order left to the process that took its lane over");
        true
    }

    fn tell_all(&self, ended: &[(Work, End)]) {
        let told: Vec<Told> = ended.iter().filter_map(|(work, end)| told(work, end)).collect();
        for (work, end) in ended {
            if let Origin::Retried(job) = &work.origin {
                self.jobs.end(&job.lane, job.id);
            }
            let outcome = match end {
                End::Finished => "finished",
                End::Waiting { .. } => "waiting",
                End::Failed { .. } => "failed",
            };
            metrics::counter!("orders_ended_total", "outcome" => outcome).increment(1);
        }
        (self.tell)(&told);
    }
}

/// The batches whose rows may go.
fn removable(emptied: &[Arc<Batch>]) -> Arc<[Uuid]> {
    emptied.iter().filter(|batch| !batch.left.load(Ordering::Acquire)).map(|batch| batch.id).collect()
}

fn told(work: &Work, end: &End) -> Option<Told> {
    let news = match end {
        End::Finished => News::Finished,
        End::Failed { .. } => News::Failed,
        End::Waiting { counted: true, .. } => News::AttemptFailed,
        End::Waiting { counted: false, .. } => return None,
    };
    Some(Told { order_id: work.order_id, data: work.data, news })
}

/// Repeats `write` until the database has taken it: what ended must not be forgotten.
async fn persist<T, Fut: Future<Output = Result<T>>>(name: &'static str, write: impl Fn() -> Fut) -> T {
    loop {
        match write().await {
            Ok(value) => return value,
            Err(error) => {
                tracing::warn!(name, %error, code = "UNAVAILABLE", "ending orders failed; trying again");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
}

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

async fn finish(connection: &mut PgConnection, ended: &[(Work, End)], done: &[Uuid]) -> Result<()> {
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
async fn settle_in(
    connection: &mut PgConnection,
    ended: &[(Work, End)],
    done: &[Uuid],
    backoff: Backoff,
) -> Result<Option<Duration>> {
    let own = ended.iter().filter(|(work, _)| matches!(work.origin, Origin::Accepted(_)));
    let mut fenced = HashSet::new();
    for (work, _) in own {
        let lane = work.origin.lane();
        if fenced.insert(lane.id) {
            lane.fence(connection).await?;
        }
    }
    finish(connection, ended, done).await?;
    fail(connection, ended).await?;
    let with_data = wait(connection, ended).await?;
    let (mut settled, mut enqueued, mut buried, mut soonest) = (Vec::new(), Vec::new(), Vec::new(), None);
    for (work, end) in ended {
        let settle = match end {
            End::Finished => Settle::Complete,
            End::Failed { reason } => Settle::Bury { reason: reason.clone() },
            End::Waiting { reason, counted } => {
                let failures = match &work.origin {
                    Origin::Accepted(_) => u32::from(*counted),
                    Origin::Retried(job) => job.attempts + u32::from(*counted),
                };
                // The callback came while the attempt was being given up: nothing to wait for.
                let delay = match with_data.contains(&work.order_id) && work.data.is_none() {
                    true => Duration::ZERO,
                    false => backoff.random_delay(failures),
                };
                soonest = Some(soonest.map_or(delay, |soonest: Duration| soonest.min(delay)));
                Settle::Retry { delay, reason: reason.clone(), counted: *counted }
            }
        };
        match (&work.origin, settle) {
            (Origin::Retried(job), settle) => settled.push(((**job).clone(), settle)),
            (_, Settle::Retry { delay, reason, counted }) => enqueued.push((work, delay, reason, counted)),
            (_, Settle::Bury { reason }) => buried.push((new_job(work), reason)),
            (_, Settle::Complete) => {}
        }
    }
    settle_in_tx(connection, QUEUE, &settled).await?;
    bury_new_in_tx(connection, QUEUE, &buried).await?;
    enqueue(connection, enqueued).await?;
    Ok(soonest)
}

/// Into the lane each was accepted under: this process claims them again, unless it dies.
async fn enqueue(connection: &mut PgConnection, waiting: Vec<(&Work, Duration, String, bool)>) -> Result<()> {
    let mut lanes: Vec<(_, Vec<NewJob>)> = Vec::new();
    for (work, delay, reason, counted) in waiting {
        let job = NewJob { delay, attempts: u32::from(counted), last_error: Some(reason), ..new_job(work) };
        let lane = work.origin.lane();
        match lanes.iter_mut().find(|(known, _): &&mut (&Arc<store::Lease>, _)| known.id == lane.id) {
            Some((_, jobs)) => jobs.push(job),
            None => lanes.push((lane, vec![job])),
        }
    }
    for (lane, jobs) in lanes {
        enqueue_in_tx(connection, QUEUE, Some(lane), &jobs).await?;
    }
    Ok(())
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

const FINISH: &str = "-- finish_orders
WITH gone AS (
    DELETE FROM accepted_batches WHERE batch_id = ANY ($5)
)
UPDATE orders o
SET state = 4, attempts = t.attempts, started_at = coalesce(o.started_at, t.started_at), external_at = t.external_at,
    finished_at = now(), last_error = NULL
FROM unnest($1::int[], $2::int[], $3::timestamptz[], $4::timestamptz[]) AS t (order_id, attempts, started_at, external_at)
WHERE o.order_id = t.order_id AND o.state < 4";

const FAIL: &str = "-- fail_orders
UPDATE orders o
SET state = $6, attempts = t.attempts, started_at = coalesce(o.started_at, t.started_at), external_at = t.external_at,
    failed_at = array_append(o.failed_at, now()), last_error = t.reason
FROM unnest($1::int[], $2::int[], $3::timestamptz[], $4::timestamptz[], $5::text[])
    AS t (order_id, attempts, started_at, external_at, reason)
WHERE o.order_id = t.order_id AND o.state < 4";

const WAIT: &str = "-- wait_orders
UPDATE orders o
SET state = greatest(o.state, t.state), attempts = t.attempts, started_at = coalesce(o.started_at, t.started_at),
    external_at = t.external_at, last_error = t.reason
FROM unnest($1::int[], $2::int[], $3::timestamptz[], $4::timestamptz[], $5::text[], $6::smallint[])
    AS t (order_id, attempts, started_at, external_at, reason, state)
WHERE o.order_id = t.order_id AND o.state < 4
RETURNING o.order_id, o.storage_id, o.pickup_point_id";
