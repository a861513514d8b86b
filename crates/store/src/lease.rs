//! Leases with fencing tokens, on the database's clock.
//!
//! - Cost: one statement every two seconds renews all leases of a process and takes over expired
//!   ones, independent of the work under them.
//! - Lock order: lease rows in id order; a takeover skips locked rows.
//! - Promise: a holder paused past its expiry loses its lease, and writes under the old
//!   epoch are refused ([`Lease::fence`]).
//!
//! An epoch contains a mark of its owner in the low bits, so equal epochs mean the same owner.
//! After the table is restored from a backup, a newly granted epoch differs from the one
//! another process still holds.
//!
//! A clock step has only a short effect: an expiry further ahead than any renewal sets it was
//! written before the clock was set back, and counts as expired.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sqlx::{PgConnection, PgPool};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::{Error, LeaseEpoch, LeaseId, PgOperation, Result, mutant, pool, statement};

/// Timeout of a renewal; the next one uses another connection. Two fit before a lease expires.
const RENEWAL_TIMEOUT: Duration = Duration::from_secs(3);

/// Server-side statement timeout of lease statements: a locked row or a slow disk is reported
/// before the renewal times out, and is not mistaken for a silent network.
const RENEWAL_STATEMENT_TIMEOUT: Duration = Duration::from_millis(2500);

/// Opens a pool of one connection to the database of `pool` for lease renewals and short queries.
/// Nothing else waits for it, and the server limits its statements. It is closed with `pool`.
pub fn open_lease_pool(pool: &PgPool) -> PgPool {
    let limit = RENEWAL_STATEMENT_TIMEOUT.as_millis().to_string();
    pool::open_pool_beside(pool, "leases", 1, vec![("statement_timeout", limit)], Arc::default())
}

fn lease_operation(name: &'static str) -> PgOperation {
    PgOperation::named(name).with_timeout(RENEWAL_TIMEOUT)
}

/// Lifetime and renewal of leases.
#[derive(Debug, Clone, Copy)]
pub struct LeaseOptions {
    /// Time after the last renewal at which another process may take the lease.
    pub ttl: Duration,
    /// Interval of renewals; well below `ttl`.
    pub renewal_interval: Duration,
}

impl Default for LeaseOptions {
    fn default() -> Self {
        Self { ttl: Duration::from_secs(8), renewal_interval: Duration::from_secs(2) }
    }
}

/// Number of low bits of an epoch with the owner's mark; the high bits count the grants.
const OWNER_MARK_BITS: i32 = 24;

/// An expiry more than this many `ttl`s ahead does not come from a renewal.
const MAX_TTLS_AHEAD: f64 = 2.0;

/// A lease held by this process.
#[derive(Debug)]
pub struct Lease {
    /// Id of the row in `leases`.
    pub id: LeaseId,
    /// Fencing token of the grant.
    pub epoch: LeaseEpoch,
    /// Name of the lease, unique within its class.
    pub name: String,
    lost: AtomicBool,
    lost_signal: Notify,
}

impl Lease {
    fn new(id: LeaseId, epoch: LeaseEpoch, name: String) -> Arc<Self> {
        Arc::new(Self { id, epoch, name, lost: AtomicBool::new(false), lost_signal: Notify::new() })
    }

    /// Whether the lease is known to be lost.
    pub fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Acquire)
    }

    /// Waits until the lease is known to be lost.
    pub async fn wait_until_lost(&self) {
        let signal = self.lost_signal.notified();
        if !self.is_lost() {
            signal.await;
        }
    }

    /// Marks the lease as lost: called by the renewal and after an [`Error::Fenced`].
    pub fn mark_lost(&self) {
        self.lost.store(true, Ordering::Release);
        self.lost_signal.notify_waiters();
    }

    /// Fails with [`Error::Fenced`] unless the lease is held. It cannot be taken over before the
    /// transaction on `connection` ends.
    pub async fn fence(&self, connection: &mut PgConnection) -> Result<()> {
        if mutant("fence_left_out") {
            return Ok(());
        }
        let is_held: bool = statement("fence", "SELECT lease_held($1, $2)")
            .bind(self.id)
            .bind(self.epoch)
            .fetch_value(connection)
            .await?;
        if is_held { Ok(()) } else { Err(self.fenced_error()) }
    }

    /// Marks the lease as lost and returns the error for it.
    pub fn fenced_error(&self) -> Error {
        self.mark_lost();
        Error::Fenced { lease_id: self.id, epoch: self.epoch }
    }
}

/// All leases of this process and their renewal task.
#[derive(Clone)]
pub struct LeaseManager {
    pool: PgPool,
    owner: Uuid,
    options: LeaseOptions,
    held_leases: Arc<Mutex<HashMap<LeaseId, Arc<Lease>>>>,
    is_retired: Arc<AtomicBool>,
    /// Start of the last successful renewal.
    renewed_at: Arc<Mutex<Instant>>,
}

impl LeaseManager {
    /// Starts the renewal task on a connection of `pool` that nothing else should wait for. Expired
    /// leases of `adopted_classes` (such as `lane/orders`) are taken over
    /// and sent to `adopted_leases`.
    pub fn start(
        pool: PgPool,
        options: LeaseOptions,
        adopted_classes: Vec<String>,
        adopted_leases: mpsc::Sender<Arc<Lease>>,
    ) -> (Self, JoinHandle<()>) {
        let leases = Self {
            pool,
            owner: Uuid::new_v4(),
            options,
            held_leases: Arc::default(),
            is_retired: Arc::default(),
            renewed_at: Arc::new(Mutex::new(Instant::now())),
        };
        let manager = leases.clone();
        let task = tokio::spawn(async move {
            let mut tick = tokio::time::interval(options.renewal_interval);
            tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                tick.tick().await;
                if let Err(error) =
                    manager.renew_and_adopt_leases(&adopted_classes, &adopted_leases).await
                {
                    tracing::warn!(%error, code = "UNAVAILABLE", "leases could not be renewed");
                }
            }
        });
        (leases, task)
    }

    /// Id of this process in the lease table.
    pub fn owner(&self) -> Uuid {
        self.owner
    }

    /// Fails when the last renewal is older than `ttl`, with its age: other processes may have
    /// taken the leases over.
    pub fn check_last_renewal(&self) -> Result<(), String> {
        let since = self.renewed_at.lock().unwrap_or_else(PoisonError::into_inner).elapsed();
        if since <= self.options.ttl {
            return Ok(());
        }
        Err(format!("leases were last renewed {} s ago", since.as_secs()))
    }

    /// Mark in this process's epochs, taken from the random owner id.
    fn owner_mark(&self) -> i64 {
        let [.., a, b, c] = *self.owner.as_bytes();
        i64::from(u32::from_be_bytes([0, a, b, c]))
    }

    /// Stops renewing and taking over because the process ends. Leases that
    /// are not released expire.
    pub fn retire(&self) {
        self.is_retired.store(true, Ordering::Release);
    }

    /// Takes `name` if it is free or expired; `None` if another process holds it.
    pub async fn take_lease(&self, class: &str, name: &str) -> Result<Option<Arc<Lease>>> {
        let ttl = self.options.ttl.as_secs_f64();
        let row: Option<(LeaseId, LeaseEpoch, String)> = statement(
            lease_operation("take_lease"),
            "INSERT INTO leases (class, name, owner, epoch, expires_at)
            VALUES ($1, $2, $3, (1::bigint << $5) | $6, now() + make_interval(secs => $4))
            ON CONFLICT (class, name) DO UPDATE
                SET owner = excluded.owner, expires_at = excluded.expires_at,
                    epoch = (((leases.epoch >> $5) + 1) << $5) | $6
                WHERE leases.expires_at < now() OR leases.expires_at > now() + make_interval(secs => $7)
                   OR leases.owner = excluded.owner
            RETURNING lease_id, epoch, name",
        )
        .bind(class)
        .bind(name)
        .bind(self.owner)
        .bind(ttl)
        .bind(OWNER_MARK_BITS)
        .bind(self.owner_mark())
        .bind(ttl * MAX_TTLS_AHEAD)
        .fetch_optional(&self.pool)
        .await?;
        Ok(row.map(|(id, epoch, name)| self.hold_lease(id, epoch, name)))
    }

    /// Releases a lease: it is free immediately.
    pub async fn release_lease(&self, lease: &Lease) -> Result<()> {
        self.forget_lease(lease);
        statement(
            lease_operation("release_lease"),
            "UPDATE leases SET owner = gen_random_uuid(), expires_at = '-infinity',
                    epoch = ((epoch >> $3) + 1) << $3
             WHERE lease_id = $1 AND epoch = $2",
        )
        .bind(lease.id)
        .bind(lease.epoch)
        .bind(OWNER_MARK_BITS)
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Deletes a lease in the caller's transaction. Fails with [`Error::Fenced`] if it is not held.
    pub async fn dissolve_in_tx(&self, connection: &mut PgConnection, lease: &Lease) -> Result<()> {
        let deleted =
            statement("dissolve_lease", "DELETE FROM leases WHERE lease_id = $1 AND epoch = $2")
                .bind(lease.id)
                .bind(lease.epoch)
                .execute(connection)
                .await?;
        if deleted == 1 { Ok(()) } else { Err(lease.fenced_error()) }
    }

    /// Stops renewing a lease that was deleted or is to expire.
    pub fn forget_lease(&self, lease: &Lease) {
        let mut held = self.lock_held_leases();
        // This process may have taken it again meanwhile.
        if held.get(&lease.id).is_some_and(|kept| kept.epoch == lease.epoch) {
            held.remove(&lease.id);
        }
    }

    /// Registers a taken lease. If this process took it twice concurrently, only the
    /// newer epoch stays valid.
    fn hold_lease(&self, id: LeaseId, epoch: LeaseEpoch, name: String) -> Arc<Lease> {
        let lease = Lease::new(id, epoch, name);
        let mut held = self.lock_held_leases();
        match held.get(&id) {
            Some(kept) if kept.epoch > epoch => lease.mark_lost(),
            older => {
                older.into_iter().for_each(|older| older.mark_lost());
                held.insert(id, lease.clone());
            }
        }
        lease
    }

    fn is_holding(&self, lease: &Lease) -> bool {
        self.lock_held_leases().get(&lease.id).is_some_and(|kept| kept.epoch == lease.epoch)
    }

    fn lock_held_leases(&self) -> std::sync::MutexGuard<'_, HashMap<LeaseId, Arc<Lease>>> {
        self.held_leases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn renew_and_adopt_leases(
        &self,
        adopted_classes: &[String],
        adopted_leases: &mpsc::Sender<Arc<Lease>>,
    ) -> Result<()> {
        let began = Instant::now();
        if self.is_retired.load(Ordering::Acquire) {
            return Ok(());
        }
        let mine: Vec<Arc<Lease>> = self.lock_held_leases().values().cloned().collect();
        let capacity = adopted_leases.capacity() as i64;
        if !mine.is_empty() || (!adopted_classes.is_empty() && capacity > 0) {
            let rows = self.renew_leases(&mine, adopted_classes, capacity).await?;
            self.apply_renewal(&mine, rows, adopted_leases);
        }
        *self.renewed_at.lock().unwrap_or_else(PoisonError::into_inner) = began;
        Ok(())
    }

    /// Applies the result of a renewal of `mine`.
    fn apply_renewal(
        &self,
        mine: &[Arc<Lease>],
        rows: Vec<RenewedLease>,
        adopted_leases: &mpsc::Sender<Arc<Lease>>,
    ) {
        for lease in mine {
            if !rows.iter().any(|row| row.id == lease.id && row.epoch == lease.epoch)
                && self.is_holding(lease)
            {
                tracing::warn!(lease = lease.name, epoch = lease.epoch.get(), "lease lost");
                self.forget_lease(lease);
                lease.mark_lost();
            }
        }
        for RenewedLease { id, epoch, name, taken_over } in rows {
            if taken_over {
                tracing::info!(lease = name, epoch = epoch.get(), "expired lease taken over");
                // There is capacity: only this task sends. A closed channel means that
                // no worker is left.
                let lease = self.hold_lease(id, epoch, name);
                if adopted_leases.try_send(lease.clone()).is_err() {
                    self.forget_lease(&lease);
                }
            }
        }
    }

    /// Returns all leases held after the statement.
    async fn renew_leases(
        &self,
        mine: &[Arc<Lease>],
        adopted_classes: &[String],
        capacity: i64,
    ) -> Result<Vec<RenewedLease>> {
        let ids: Vec<LeaseId> = mine.iter().map(|lease| lease.id).collect();
        let epochs: Vec<LeaseEpoch> = mine.iter().map(|lease| lease.epoch).collect();
        let ttl = self.options.ttl.as_secs_f64();
        // The mutant treats every expiry later than one hour ago as too far ahead.
        let ahead =
            if mutant("renewal_takes_living_leases") { -3600.0 } else { ttl * MAX_TTLS_AHEAD };
        let rows: Vec<(LeaseId, LeaseEpoch, String, bool)> =
            statement(lease_operation("renew_leases"), RENEW_LEASES_SQL)
                .bind(ids)
                .bind(epochs)
                .bind(self.owner)
                .bind(ttl)
                .bind(adopted_classes)
                .bind(capacity)
                .bind(OWNER_MARK_BITS)
                .bind(self.owner_mark())
                .bind(ahead)
                .fetch_all(&self.pool)
                .await?;
        let mut renewed = Vec::with_capacity(rows.len());
        for (id, epoch, name, taken_over) in rows {
            renewed.push(RenewedLease { id, epoch, name, taken_over });
        }
        Ok(renewed)
    }
}

/// A lease that is held after a renewal.
struct RenewedLease {
    id: LeaseId,
    epoch: LeaseEpoch,
    name: String,
    /// Whether another process held it before.
    taken_over: bool,
}

const RENEW_LEASES_SQL: &str = "\
WITH mine AS MATERIALIZED (
    -- In the order of their ids, as whoever fences several of them.
    SELECT l.lease_id FROM unnest($1::bigint[], $2::bigint[]) AS m (lease_id, epoch)
    JOIN leases l ON l.lease_id = m.lease_id AND l.epoch = m.epoch
    ORDER BY l.lease_id FOR NO KEY UPDATE OF l
), renewed AS (
    UPDATE leases l SET expires_at = now() + make_interval(secs => $4)
    FROM mine WHERE l.lease_id = mine.lease_id
    RETURNING l.lease_id, l.epoch, l.name
), expired AS (
    SELECT lease_id FROM leases
    WHERE class = ANY ($5::text[]) AND (expires_at < now() OR expires_at > now() + make_interval(secs => $9))
      AND lease_id NOT IN (SELECT unnest($1::bigint[]))
    ORDER BY expires_at LIMIT $6
    FOR UPDATE SKIP LOCKED
), taken AS (
    UPDATE leases l SET owner = $3, epoch = (((l.epoch >> $7) + 1) << $7) | $8, expires_at = now() + make_interval(secs => $4)
    FROM expired WHERE l.lease_id = expired.lease_id
    RETURNING l.lease_id, l.epoch, l.name
)
SELECT lease_id, epoch, name, false FROM renewed
UNION ALL SELECT lease_id, epoch, name, true FROM taken";
