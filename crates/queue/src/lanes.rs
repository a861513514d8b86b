//! The lanes a process holds in one queue: its own, and those adopted from processes that are gone.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use sqlx::{PgConnection, PgPool};
use store::{
    Error, Lease, LeaseManager, PgNotification as Heard, PgNotificationHub, Result,
    open_single_connection_pool, run_statement, run_tx,
};
use tokio::sync::{Notify, broadcast, mpsc};
use tokio::time::Instant;

use crate::JOB_WAKE_CHANNEL;

/// A queue's name.
pub type QueueName = &'static str;

/// The class of the leases that are a queue's lanes.
pub fn lane_class(queue: QueueName) -> String {
    format!("lane/{queue}")
}

/// What is done when a lane of a queue is adopted, before the lane's jobs are claimed: such as turning what the dead process
/// had in hand into jobs. Called in transactions of their own that fence the lane, until it answers that nothing is left: a
/// fence holds up the renewal of all leases, so each piece must be short. Must be safe to repeat.
pub type LaneAdopter = Arc<
    dyn for<'c> Fn(&'c mut PgConnection, &'c Lease) -> BoxFuture<'c, Result<AdoptionProgress>>
        + Send
        + Sync,
>;

/// How far an adoption is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AdoptionProgress {
    /// Nothing is left.
    Complete,
    /// There may be more.
    Partial,
}

/// How often a process asks for due jobs though nobody woke it.
const IDLE_POLL_INTERVAL: Duration = Duration::from_secs(2);

/// One process's part of a queue. Clones share it.
#[derive(Clone)]
pub struct JobQueue {
    pub(crate) shared: Arc<JobQueueInner>,
    /// What no job of the queue is ever told to wait for.
    pub(crate) max_delay: Option<Duration>,
}

pub(crate) struct JobQueueInner {
    pub(crate) pool: PgPool,
    /// For claims, which come one after another.
    pub(crate) claim_pool: PgPool,
    pub(crate) queue: QueueName,
    leases: LeaseManager,
    lanes: Mutex<HeldLanes>,
    wake: Notify,
}

struct HeldLanes {
    own_lane: Arc<Lease>,
    /// Every lane held, with the jobs of it that are in work.
    by_id: HashMap<i64, (Arc<Lease>, HashSet<i64>)>,
    /// When something is known to be due next.
    next_due: Option<Instant>,
    /// Claims that are reading.
    open_claims: usize,
    /// Jobs that ended while a claim was reading: it may have seen them as they were before.
    ended_jobs: HashSet<i64>,
}

impl JobQueue {
    /// This handle claims what is due, and what would be due later than `max_delay` from now: no job of this queue is told to wait
    /// that long, so the database's clock was put back since it was told to.
    pub fn with_max_delay(self, max_delay: Duration) -> Self {
        Self { max_delay: Some(max_delay), ..self }
    }

    /// Takes a lane of its own in `queue` and starts its upkeep. `adopted_lanes` delivers the lanes that `leases` takes
    /// over (none, if this process does not work for others).
    pub async fn start(
        pool: PgPool,
        queue: QueueName,
        leases: LeaseManager,
        notifications: &PgNotificationHub,
        adopted_lanes: mpsc::Receiver<Arc<Lease>>,
        adopter: LaneAdopter,
    ) -> Result<Self> {
        run_statement(&pool, "ensure_lane", move |connection| {
            Box::pin(async move {
                sqlx::query(ENSURE_LANE_SQL).bind(lane_class(queue)).execute(connection).await?;
                Ok(())
            })
        })
        .await?;
        let own_lane = take_own_lane(&leases, queue).await?;
        let by_id = HashMap::from([(own_lane.id, (own_lane.clone(), HashSet::new()))]);
        let lanes = Mutex::new(HeldLanes {
            own_lane,
            by_id,
            next_due: None,
            open_claims: 0,
            ended_jobs: HashSet::new(),
        });
        let claim_pool = open_single_connection_pool(&pool);
        let shared = JobQueueInner { pool, claim_pool, queue, leases, lanes, wake: Notify::new() };
        let jobs = Self { shared: Arc::new(shared), max_delay: None };
        tokio::spawn(keep_own_lane(jobs.clone()));
        tokio::spawn(adopt_lanes(jobs.clone(), adopted_lanes, adopter));
        tokio::spawn(wake_on_notifications(jobs.clone(), notifications.subscribe()));
        Ok(jobs)
    }

    /// This process's own lane, for what it enqueues for itself.
    pub fn own_lane(&self) -> Arc<Lease> {
        self.lock_lanes().own_lane.clone()
    }

    /// Says that something will be due in `delay`.
    pub fn wake_in(&self, delay: Duration) {
        let due = Instant::now() + delay;
        let mut lanes = self.lock_lanes();
        if lanes.next_due.is_none_or(|next| due < next) {
            lanes.next_due = Some(due);
            drop(lanes);
            self.shared.wake.notify_one();
        }
    }

    /// Waits until something may be due: woken, known to be due, or two seconds later.
    pub async fn wait_until_due(&self) {
        let idle = Instant::now() + IDLE_POLL_INTERVAL;
        loop {
            let woken = self.shared.wake.notified();
            let next = self.lock_lanes().next_due.map_or(idle, |next| next.min(idle));
            // Not left to the timer: it goes off at the next whole millisecond.
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

    /// The lanes held, and how many of their jobs are in work, at the beginning of a claim.
    pub(crate) fn begin_claim(&self) -> (Vec<Arc<Lease>>, usize) {
        let mut lanes = self.lock_lanes();
        lanes.by_id.retain(|_, (lease, _)| !lease.is_lost());
        lanes.open_claims += 1;
        let in_work = lanes.by_id.values().map(|(_, jobs)| jobs.len()).sum();
        (lanes.by_id.values().map(|(lease, _)| lease.clone()).collect(), in_work)
    }

    /// The end of a claim.
    pub(crate) fn end_claim(&self) {
        let mut lanes = self.lock_lanes();
        lanes.open_claims -= 1;
        if lanes.open_claims == 0 && !lanes.ended_jobs.is_empty() {
            lanes.ended_jobs.clear();
            drop(lanes);
            // Those that were passed over may be due again.
            self.wake_in(Duration::ZERO);
        }
    }

    /// Marks a job as in work; `false` if it is already, has just ended, or its lane is gone.
    pub(crate) fn begin_job(&self, lane: &Lease, job: i64) -> bool {
        let mut lanes = self.lock_lanes();
        let is_fresh = !lanes.ended_jobs.contains(&job);
        let held = lanes.by_id.get_mut(&lane.id);
        is_fresh && held.is_some_and(|(held, jobs)| held.epoch == lane.epoch && jobs.insert(job))
    }

    /// Says that a job is not in work any more: settled, or left for another claim.
    pub fn end_job(&self, lane: &Lease, job: i64) {
        let mut lanes = self.lock_lanes();
        if lanes.open_claims > 0 {
            lanes.ended_jobs.insert(job);
        }
        if let Some((_, jobs)) = lanes.by_id.get_mut(&lane.id) {
            jobs.remove(&job);
        }
    }

    /// Gives all lanes back, so that others adopt what is in them at once.
    pub async fn release_lanes(&self) -> Result<()> {
        self.shared.leases.retire();
        let held: Vec<Arc<Lease>> =
            self.lock_lanes().by_id.values().map(|(lease, _)| lease.clone()).collect();
        for lease in held {
            self.shared.leases.release_lease(&lease).await?;
        }
        Ok(())
    }

    /// Removes adopted lanes that are empty.
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
            let (leases, lane) = (self.shared.leases.clone(), lease.clone());
            let empty = run_tx(&self.shared.pool, "dissolve_lane", move |connection| {
                let (leases, lane) = (leases.clone(), lane.clone());
                Box::pin(async move { dissolve_lane_if_empty(connection, &leases, &lane).await })
            });
            match empty.await {
                Ok(false) => {}
                Ok(true) | Err(Error::Fenced { .. }) => self.drop_lane(&lease),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn drop_lane(&self, lease: &Lease) {
        self.shared.leases.forget_lease(lease);
        self.lock_lanes().by_id.remove(&lease.id);
    }

    fn lock_lanes(&self) -> MutexGuard<'_, HeldLanes> {
        self.shared.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The row is locked before it is looked whether the lane is empty: whoever adds jobs holds it in share mode.
async fn dissolve_lane_if_empty(
    connection: &mut PgConnection,
    leases: &LeaseManager,
    lane: &Lease,
) -> Result<bool> {
    sqlx::query("SELECT FROM leases WHERE lease_id = $1 FOR UPDATE -- lock_lane")
        .bind(lane.id)
        .execute(&mut *connection)
        .await?;
    let empty: bool =
        sqlx::query_scalar("SELECT NOT EXISTS (SELECT FROM jobs WHERE lane = $1) -- lane_is_empty")
            .bind(lane.id)
            .fetch_one(&mut *connection)
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

/// Takes a new lane when the present one was lost, which happens to a process that was paused for too long.
async fn keep_own_lane(jobs: JobQueue) {
    loop {
        let own_lane = jobs.own_lane();
        own_lane.wait_until_lost().await;
        match take_own_lane(&jobs.shared.leases, jobs.shared.queue).await {
            Ok(lease) => {
                let mut lanes = jobs.lock_lanes();
                lanes.by_id.remove(&own_lane.id);
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
            // Given up, so that it is tried again, here or elsewhere: at once, or when it has expired.
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
        let (adopt, lane) = (adopter.clone(), lease.clone());
        let piece = run_tx(pool, "adopt_lane", move |connection| {
            let (adopt, lane) = (adopt.clone(), lane.clone());
            Box::pin(async move {
                lane.fence(connection).await?;
                adopt(connection, &lane).await
            })
        });
        if piece.await? == AdoptionProgress::Complete {
            return Ok(());
        }
    }
}

async fn wake_on_notifications(jobs: JobQueue, mut notifications: broadcast::Receiver<Heard>) {
    loop {
        match notifications.recv().await {
            Ok(Heard::Received { channel, payload }) => {
                let ours = |lanes: &HeldLanes| {
                    payload.parse().is_ok_and(|lane: i64| lanes.by_id.contains_key(&lane))
                };
                if channel == JOB_WAKE_CHANNEL && ours(&jobs.lock_lanes()) {
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

/// A lane that is free: whoever needs one takes it over.
const ENSURE_LANE_SQL: &str = "-- ensure_lane
INSERT INTO leases (class, name, owner, expires_at)
VALUES ($1, 'unclaimed', gen_random_uuid(), '-infinity') ON CONFLICT DO NOTHING";
