//! Ending attempts: finished orders in one statement for all that ended meanwhile; the others, and those from the retry
//! queue, in one transaction with their jobs.
//!
//! The process that holds an order's lane decides about it. Finishing needs no such proof: what it writes is true
//! whoever writes it, and is written once.

mod rows;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use chrono::Utc;
use queue::{Backoff, Jobs};
use sqlx::PgPool;
use store::{Coalescer, Error, Result, run, run_tx};
use uuid::Uuid;

use super::{Batch, End, News, Origin, Told, Work, adopt};

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
                Box::pin(async move { rows::finish(connection, &ended, &done).await })
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
                Box::pin(async move { rows::settle(connection, &work, &done, backoff).await })
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
