//! Lanes of one process in one queue: the process's lane and lanes adopted from dead processes.
//!
//! - Shape: a lane is a row of `leases` with class `lane/QUEUE`; jobs refer to it by id.
//! - Cost: two transactions or more per adopted lane; empty adopted lanes are deleted.
//! - Lock order: lease row, then jobs.
//! - Promise: a lane's jobs are claimed by one process at a time; adoption
//!   is repeated until complete.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use sqlx::{PgConnection, PgPool};
use store::{
    Error, Lease, LeaseId, LeaseManager, PgNotification as Heard, PgNotificationHub, Result,
    statement, transaction,
};
use tokio::sync::{Notify, broadcast, mpsc};
use tokio::time::Instant;

use crate::JOB_WAKE_CHANNEL;
use crate::ids::JobId;

/// Name of a job queue.
pub type QueueName = &'static str;

/// Lease class of a queue's lanes.
pub fn lane_class(queue: QueueName) -> String {
    format!("lane/{queue}")
}

/// Callback for an adopted lane, called before its jobs are claimed; for example, turns the dead
/// process's unfinished work into jobs. Called in separate transactions that fence the lane, until
/// it returns `Complete`. A fence blocks the renewal of all leases, so each step must be
/// short. Must be idempotent.
pub type LaneAdopter = Arc<
    dyn for<'c> Fn(&'c mut PgConnection, &'c Lease) -> BoxFuture<'c, Result<AdoptionProgress>>
        + Send
        + Sync,
>;

/// Progress of an adoption.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AdoptionProgress {
    /// The adoption is complete.
    Complete,
    /// To be called again.
    Partial,
}

/// Interval of claims without a wakeup.
const IDLE_POLL_INTERVAL: Duration = Duration::from_secs(2);

/// One process's handle of a queue. Clones share the state.
#[derive(Clone)]
pub struct JobQueue {
    pub(crate) shared: Arc<JobQueueInner>,
    /// Upper bound of all delays in this queue.
    pub(crate) max_delay: Option<Duration>,
}

pub(crate) struct JobQueueInner {
    pub(crate) pool: PgPool,
    /// Runs the claims, which are sequential.
    pub(crate) claim_pool: PgPool,
    pub(crate) queue: QueueName,
    leases: LeaseManager,
    lanes: Mutex<HeldLanes>,
    wake: Notify,
}

struct HeldLanes {
    own_lane: Arc<Lease>,
    /// Lanes held by lease id, each with its jobs in work.
    by_id: HashMap<LeaseId, (Arc<Lease>, HashSet<JobId>)>,
    /// Earliest known due time.
    next_due: Option<Instant>,
    /// Number of claims in progress.
    open_claims: usize,
    /// Jobs ended during a claim: the claim may have read their old rows.
    ended_jobs: HashSet<JobId>,
}

impl HeldLanes {
    /// Removes a lane unless it is held at a newer epoch: this process may have adopted it again.
    fn remove_lane(&mut self, lane: &Lease) {
        if self.by_id.get(&lane.id).is_some_and(|(held, _)| held.epoch == lane.epoch) {
            self.by_id.remove(&lane.id);
        }
    }
}

impl JobQueue {
    /// Returns a handle that also claims jobs due later than `max_delay` from now. No job of this
    /// queue waits that long, so the database's clock must have been set back.
    pub fn with_max_delay(self, max_delay: Duration) -> Self {
        Self { max_delay: Some(max_delay), ..self }
    }

    /// Takes a new lane in `queue` and starts its background tasks. `claim_pool` has one connection
    /// (`store::open_single_connection_pool`), which several queues may share: a claim is one short
    /// statement. `adopted_lanes` delivers the lanes that `leases` takes over (none if this process
    /// adopts none).
    pub async fn start(
        pool: PgPool,
        claim_pool: PgPool,
        queue: QueueName,
        leases: LeaseManager,
        notifications: &PgNotificationHub,
        adopted_lanes: mpsc::Receiver<Arc<Lease>>,
        adopter: LaneAdopter,
    ) -> Result<Self> {
        statement("ensure_lane", ENSURE_LANE_SQL).bind(lane_class(queue)).execute(&pool).await?;
        let own_lane = take_own_lane(&leases, queue).await?;
        let by_id = HashMap::from([(own_lane.id, (own_lane.clone(), HashSet::new()))]);
        let lanes = Mutex::new(HeldLanes {
            own_lane,
            by_id,
            next_due: None,
            open_claims: 0,
            ended_jobs: HashSet::new(),
        });
        let shared = JobQueueInner { pool, claim_pool, queue, leases, lanes, wake: Notify::new() };
        let jobs = Self { shared: Arc::new(shared), max_delay: None };
        tokio::spawn(keep_own_lane(jobs.clone()));
        tokio::spawn(adopt_lanes(jobs.clone(), adopted_lanes, adopter));
        tokio::spawn(wake_on_notifications(jobs.clone(), notifications.subscribe()));
        Ok(jobs)
    }

    /// This process's lane, for jobs that it enqueues for itself.
    pub fn own_lane(&self) -> Arc<Lease> {
        self.lock_lanes().own_lane.clone()
    }

    /// Schedules a wakeup of the claimer in `delay`.
    pub fn wake_in(&self, delay: Duration) {
        let due = Instant::now() + delay;
        let mut lanes = self.lock_lanes();
        if lanes.next_due.is_none_or(|next| due < next) {
            lanes.next_due = Some(due);
            drop(lanes);
            self.shared.wake.notify_one();
        }
    }

    /// Waits until a job may be due: a notification, a known due time, or two seconds.
    pub async fn wait_until_due(&self) {
        let idle = Instant::now() + IDLE_POLL_INTERVAL;
        loop {
            let woken = self.shared.wake.notified();
            let next = self.lock_lanes().next_due.map_or(idle, |next| next.min(idle));
            // Checked without the timer, which fires at the next whole millisecond.
            if next > Instant::now() {
                tokio::select! {
                    () = tokio::time::sleep_until(next) => {}
                    () = woken => continue,
                }
            }
            self.lock_lanes().next_due = None;
            return;
        }
    }

    /// Starts a claim: returns the lanes held and the number of jobs in work.
    pub(crate) fn begin_claim(&self) -> (Vec<Arc<Lease>>, usize) {
        let mut lanes = self.lock_lanes();
        lanes.by_id.retain(|_, (lease, _)| !lease.is_lost());
        lanes.open_claims += 1;
        let in_work = lanes.by_id.values().map(|(_, jobs)| jobs.len()).sum();
        (lanes.by_id.values().map(|(lease, _)| lease.clone()).collect(), in_work)
    }

    pub(crate) fn end_claim(&self) {
        let mut lanes = self.lock_lanes();
        lanes.open_claims -= 1;
        if lanes.open_claims == 0 && !lanes.ended_jobs.is_empty() {
            lanes.ended_jobs.clear();
            drop(lanes);
            // Jobs skipped because they had just ended may be due again.
            self.wake_in(Duration::ZERO);
        }
    }

    /// Marks a job as in work. `false` if it already is, has just ended, or its lane is lost.
    pub(crate) fn begin_job(&self, lane: &Lease, job: JobId) -> bool {
        let mut lanes = self.lock_lanes();
        let is_fresh = !lanes.ended_jobs.contains(&job);
        let held = lanes.by_id.get_mut(&lane.id);
        is_fresh && held.is_some_and(|(held, jobs)| held.epoch == lane.epoch && jobs.insert(job))
    }

    /// Removes a job's in-work mark, after it was settled or left for another claim. The mark of a
    /// newer epoch of the lane, which this process adopted again, stays: another attempt set it.
    pub fn end_job(&self, lane: &Lease, job: JobId) {
        let mut lanes = self.lock_lanes();
        if lanes.open_claims > 0 {
            lanes.ended_jobs.insert(job);
        }
        if let Some((held, jobs)) = lanes.by_id.get_mut(&lane.id)
            && held.epoch == lane.epoch
        {
            jobs.remove(&job);
        }
    }

    /// Releases all lanes, so that other processes adopt them immediately.
    pub async fn release_lanes(&self) -> Result<()> {
        self.shared.leases.retire();
        let held: Vec<Arc<Lease>> =
            self.lock_lanes().by_id.values().map(|(lease, _)| lease.clone()).collect();
        for lease in held {
            self.shared.leases.release_lease(&lease).await?;
        }
        Ok(())
    }

    /// Deletes adopted lanes that are empty.
    pub(crate) async fn dissolve_empty_lanes(&self) -> Result<()> {
        let adopted: Vec<Arc<Lease>> = {
            let lanes = self.lock_lanes();
            let idle = lanes
                .by_id
                .values()
                .filter(|(lease, jobs)| lease.id != lanes.own_lane.id && jobs.is_empty());
            idle.map(|(lease, _)| lease.clone()).filter(|lease| lease.name != "unclaimed").collect()
        };
        for lease in adopted {
            let arguments = (self.shared.leases.clone(), lease.clone());
            let is_empty = transaction("dissolve_lane", arguments)
                .run(&self.shared.pool, |connection, (leases, lane)| {
                    Box::pin(dissolve_lane_if_empty(connection, leases, lane))
                })
                .await;
            match is_empty {
                Ok(false) => {}
                Ok(true) | Err(Error::Fenced { .. }) => self.drop_lane(&lease),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn drop_lane(&self, lease: &Lease) {
        self.shared.leases.forget_lease(lease);
        self.lock_lanes().remove_lane(lease);
    }

    fn holds_lane(&self, id: LeaseId) -> bool {
        self.lock_lanes().by_id.contains_key(&id)
    }

    fn lock_lanes(&self) -> MutexGuard<'_, HeldLanes> {
        self.shared.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Locks the lease row before the emptiness check: enqueuers hold it in share mode.
async fn dissolve_lane_if_empty(
    connection: &mut PgConnection,
    leases: &LeaseManager,
    lane: &Lease,
) -> Result<bool> {
    statement("lock_lane", "SELECT FROM leases WHERE lease_id = $1 FOR UPDATE")
        .bind(lane.id)
        .execute(&mut *connection)
        .await?;
    let empty: bool =
        statement("lane_is_empty", "SELECT NOT EXISTS (SELECT FROM jobs WHERE lane = $1)")
            .bind(lane.id)
            .fetch_value(&mut *connection)
            .await?;
    if empty {
        leases.dissolve_in_tx(connection, lane).await?;
    }
    Ok(empty)
}

async fn take_own_lane(leases: &LeaseManager, queue: QueueName) -> Result<Arc<Lease>> {
    let name = format!("{}-{:08x}", leases.owner(), rand::random::<u32>());
    leases.take_lease(&lane_class(queue), &name).await?.ok_or(Error::Abandoned)
}

/// Replaces the process's lane when it is lost, for example after a long pause of the process.
async fn keep_own_lane(jobs: JobQueue) {
    loop {
        let own_lane = jobs.own_lane();
        own_lane.wait_until_lost().await;
        match take_own_lane(&jobs.shared.leases, jobs.shared.queue).await {
            Ok(lease) => {
                let mut lanes = jobs.lock_lanes();
                lanes.remove_lane(&own_lane);
                lanes.by_id.insert(lease.id, (lease.clone(), HashSet::new()));
                lanes.own_lane = lease;
            }
            Err(error) => {
                tracing::warn!(%error, code = "UNAVAILABLE", queue = jobs.shared.queue, "no lane of our own yet");
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        }
    }
}

async fn adopt_lanes(
    jobs: JobQueue,
    mut adopted_lanes: mpsc::Receiver<Arc<Lease>>,
    adopter: LaneAdopter,
) {
    while let Some(lease) = adopted_lanes.recv().await {
        if let Err(error) = adopt_lane(&jobs.shared.pool, &adopter, &lease).await {
            // Released for another try by any process: immediately, or after the lease expires.
            tracing::warn!(%error, code = "UNAVAILABLE", lane = lease.name, "lane could not be adopted");
            let _ = jobs.shared.leases.release_lease(&lease).await;
            continue;
        }
        jobs.lock_lanes().by_id.insert(lease.id, (lease, HashSet::new()));
        jobs.wake_in(Duration::ZERO);
    }
}

async fn adopt_lane(pool: &PgPool, adopter: &LaneAdopter, lease: &Arc<Lease>) -> Result<()> {
    loop {
        let progress = transaction("adopt_lane", (adopter.clone(), lease.clone()))
            .run(pool, |connection, (adopt, lane)| {
                Box::pin(async move {
                    lane.fence(connection).await?;
                    adopt(connection, lane).await
                })
            })
            .await?;
        if progress == AdoptionProgress::Complete {
            return Ok(());
        }
    }
}

async fn wake_on_notifications(jobs: JobQueue, mut notifications: broadcast::Receiver<Heard>) {
    loop {
        match notifications.recv().await {
            Ok(Heard::Received { channel, payload }) => {
                if channel == JOB_WAKE_CHANNEL
                    && payload.parse().is_ok_and(|lane| jobs.holds_lane(LeaseId(lane)))
                {
                    jobs.wake_in(Duration::ZERO);
                }
            }
            Ok(Heard::Missed) | Err(broadcast::error::RecvError::Lagged(_)) => {
                jobs.wake_in(Duration::ZERO)
            }
            Err(broadcast::error::RecvError::Closed) => return,
        }
    }
}

/// A free lane for any process to take over.
const ENSURE_LANE_SQL: &str = "\
INSERT INTO leases (class, name, owner, expires_at)
VALUES ($1, 'unclaimed', gen_random_uuid(), '-infinity') ON CONFLICT DO NOTHING";
