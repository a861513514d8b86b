//! Ending attempts: finished orders in one statement for all that ended meanwhile; the others, and those from the retry
//! queue, in one transaction with their jobs.
//!
//! The process that holds an order's lane decides about it. Finishing needs no such proof: what it writes is true
//! whoever writes it, and is written once.

mod rows;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use queue::{Backoff, Jobs};
use sqlx::PgPool;
use store::{Coalescer, Error, connection_of_its_own, run, run_tx, storable};
use uuid::Uuid;

use super::{Batch, End, News, Origin, State, Told, Work, adopt, paced};

/// After so long an order is taken up again whose end the database refused to store in any form.
const REFUSED_RETRY_INTERVAL: Duration = Duration::from_secs(15);

/// When and how attempts are repeated.
#[derive(Debug, Clone, Copy)]
pub struct GiveUp {
    /// Waits between attempts.
    pub backoff: Backoff,
    /// How long after its first failed attempt an order is given up, ...
    pub after: Duration,
    /// ... if it also failed so often since somebody last asked for it: no single reading of a clock gives orders up.
    pub attempts: u32,
}

/// Those who wait for orders in this process.
pub trait Audience: Send + Sync {
    /// What was committed.
    fn tell(&self, told: &[Told]);
    /// An order belongs to another process now: what becomes of it must be looked up.
    fn left(&self, order_id: i32);
}

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
    audience: Arc<dyn Audience>,
    doubtful: Coalescer<Uuid>,
}

impl Ender {
    /// Starts the writing task. The audience hears of every order after its commit.
    pub fn start(pool: PgPool, jobs: Jobs, terms: GiveUp, audience: Arc<dyn Audience>) -> Self {
        let recovering = (pool.clone(), jobs.clone());
        let doubtful = Coalescer::spawn("recover_batches", 1024, 1024, move |batches| {
            let (pool, jobs) = recovering.clone();
            async move { adopt::recover(&pool, &jobs, batches).await }
        });
        let pool = connection_of_its_own(&pool);
        let desk = Arc::new(Desk { pool, jobs, terms, audience, doubtful: doubtful.clone() });
        let ended = Coalescer::spawn_fair("end_orders", 65_536, paced(8192), move |batch| {
            let desk = desk.clone();
            async move { desk.end(batch).await }
        });
        Self { ended, doubtful }
    }

    /// Hands an attempt in; it is written soon, for as long as that takes.
    pub async fn end(&self, work: Work, end: End) {
        self.ended.push_for(work.turn, (work, end)).await;
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
        let (plain, mut other): (Vec<_>, Vec<_>) = decided.partition(is_plain);
        // A batch's row goes with the last of its orders, so in the later of the two writes.
        if !plain.is_empty() {
            let plain = Arc::new(plain);
            let emptied = if other.is_empty() { removable(&emptied) } else { Arc::new([]) };
            if !self.finish_plain(&plain, emptied).await {
                other.extend(plain.iter().cloned());
            }
        }
        if !other.is_empty() {
            self.settle(other, &emptied).await;
        }
    }

    /// What has failed for long and often enough has failed for good; reasons are cut to what can be stored.
    fn decide(&self, work: Work, end: End) -> (Work, End) {
        let end = match end {
            End::Waiting { reason, counted: true } if self.gives_up(&work) => {
                End::GivenUp { after: self.terms.after, reason: storable(&reason) }
            }
            End::Waiting { reason, counted } => End::Waiting { reason: storable(&reason), counted },
            End::Failed { reason } => End::Failed { reason: storable(&reason) },
            End::GivenUp { after, reason } => End::GivenUp { after, reason: storable(&reason) },
            End::Finished => End::Finished,
        };
        (work, end)
    }

    /// An order whose data is stored is not given up: something of it may be posted.
    fn gives_up(&self, work: &Work) -> bool {
        let Origin::Retried(job) = &work.origin else { return false };
        (work.data.is_none() || store::mutant("given_up_with_data"))
            && job.waited() >= self.terms.after
            && job.failures() + 1 >= self.terms.attempts
    }

    /// Writes plain finishes for as long as that takes; false if the database refuses them for good.
    async fn finish_plain(&self, ended: &Arc<Vec<(Work, End)>>, done: Arc<[Uuid]>) -> bool {
        store::fail_point("finishing");
        loop {
            let (work, done) = (ended.clone(), done.clone());
            let finished = run(&self.pool, "finish_orders", move |connection| {
                let (work, done) = (work.clone(), done.clone());
                Box::pin(async move { rows::finish(connection, &work, &done).await })
            });
            match finished.await {
                Ok(()) => {
                    store::fail_point("finished");
                    self.tell_all(ended);
                    return true;
                }
                // Too much at once is settled by parts.
                Err(error) if error.is_timeout() && ended.len() > 1 => return false,
                Err(error) if error.is_transient() => pause(&error).await,
                Err(_) => return false,
            }
        }
    }

    /// Writes everything else, for as long as that takes. What the database refuses for good is found by halving, so
    /// that one impossible order does not keep the others.
    async fn settle(&self, ended: Vec<(Work, End)>, emptied: &[Arc<Batch>]) {
        let backoff = self.terms.backoff;
        let mut piles = vec![ended];
        while let Some(mut pile) = piles.pop() {
            pile.retain(|(work, _)| !self.is_left(work));
            let done = if piles.is_empty() { removable(emptied) } else { Arc::new([]) };
            let written = Arc::new(pile.clone());
            let settled = run_tx(&self.pool, "settle_orders", move |connection| {
                let (work, done) = (written.clone(), done.clone());
                Box::pin(async move { rows::settle(connection, &work, &done, backoff).await })
            });
            match settled.await {
                Ok(settled) => {
                    settled.amend(&mut pile);
                    self.tell_all(&pile);
                    settled.soonest.into_iter().for_each(|delay| self.jobs.wake_in(delay));
                }
                Err(Error::Fenced { .. }) => piles.push(pile),
                Err(error) if error.is_transient() && !(error.is_timeout() && pile.len() > 1) => {
                    pause(&error).await;
                    piles.push(pile);
                }
                Err(error) if pile.len() > 1 => {
                    tracing::warn!(%error, orders = pile.len(), "the database does not take orders; trying by halves");
                    piles.push(pile.split_off(pile.len() / 2));
                    piles.push(pile);
                }
                Err(error) => piles.extend(pile.pop().and_then(|refused| self.refused(refused, &error))),
            }
        }
    }

    /// The database refuses this end of this order. If it was not that it waits, let it wait: as a job it is tried again, by
    /// whoever has its lane, and whenever somebody asks. If not even that can be written it stays where the database has it,
    /// in its batch or as a job, and is taken up again from there.
    fn refused(&self, (mut work, end): (Work, End), error: &Error) -> Option<Vec<(Work, End)>> {
        tracing::error!(order_id = work.order_id, %error, code = "CONSISTENCY_ERROR", "the end of an order is refused");
        metrics::counter!("order_ends_refused_total").increment(1);
        if !matches!(end, End::Waiting { .. }) {
            let reason = storable(&format!("CONSISTENCY_ERROR: the end of the order is refused: {error}"));
            // Not in the state that it did not come to: its last stage is repeated, which posts nothing twice.
            if work.state == State::ProcessFinished {
                work.state = State::FinishedExternalInteraction;
            }
            return Some(vec![(work, End::Waiting { reason, counted: true })]);
        }
        self.take_up_later(work);
        None
    }

    /// An order must not be left where nobody carries it on. A job is claimed again; an accepted order becomes a job, by way
    /// of its batch's row.
    fn take_up_later(&self, work: Work) {
        let (jobs, doubtful) = (self.jobs.clone(), self.doubtful.clone());
        if let Origin::Accepted(batch) = &work.origin {
            batch.left.store(true, Ordering::Release);
        }
        tokio::spawn(async move {
            tokio::time::sleep(REFUSED_RETRY_INTERVAL).await;
            match work.origin {
                Origin::Accepted(batch) => drop(doubtful.push(batch.id).await),
                Origin::Retried(job) => {
                    jobs.end(&job.lane, job.id);
                    jobs.wake_in(Duration::ZERO);
                }
            }
        });
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
        self.audience.left(work.order_id);
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
                End::Failed { .. } | End::GivenUp { .. } => "failed",
            };
            metrics::counter!("orders_ended_total", "outcome" => outcome).increment(1);
        }
        let failed: Vec<i32> =
            told.iter().filter(|told| told.news == News::Failed).map(|told| told.order_id).collect();
        if let Some(first) = failed.first() {
            tracing::warn!(
                orders = failed.len(),
                first,
                "orders given up: see `orders list --state order_failed`"
            );
        }
        self.audience.tell(&told);
    }
}

/// The batches whose rows may go.
fn removable(emptied: &[Arc<Batch>]) -> Arc<[Uuid]> {
    emptied.iter().filter(|batch| !batch.left.load(Ordering::Acquire)).map(|batch| batch.id).collect()
}

fn told(work: &Work, end: &End) -> Option<Told> {
    let news = match end {
        End::Finished => News::Finished,
        End::Failed { .. } | End::GivenUp { .. } => News::Failed,
        End::Waiting { counted: true, .. } => News::AttemptFailed,
        End::Waiting { counted: false, .. } => return None,
    };
    Some(Told { order_id: work.order_id, data: work.data, news })
}

async fn pause(error: &Error) {
    tracing::warn!(%error, code = "UNAVAILABLE", "ending orders failed; trying again");
    tokio::time::sleep(Duration::from_millis(200)).await;
}
