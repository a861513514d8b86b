//! Leases with fencing, on the database's clock.
//!
//! One statement every two seconds renews everything a process holds and takes over what others let expire; its
//! cost does not grow with the work done under the leases. A holder that was paused past its expiry finds its
//! lease lost, and whatever it still tries to write under the old epoch is refused ([`Lease::fence`]).
//!
//! An epoch bears its owner's mark in its low bits, so comparing epochs compares owners: should the table be put back to an
//! older copy, the epoch that somebody then takes is not one that another process still believes to hold.
//!
//! No single reading of a clock decides for long: an expiry further ahead than any renewal puts it was written before
//! the clock was set back, and counts as expired.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sqlx::{PgConnection, PgPool};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::{Error, Operation, Result, mutant, pool, run};

/// A renewal that takes longer is made again on another connection: there is time for two before a lease runs out.
const RENEWAL_TIMEOUT: Duration = Duration::from_secs(3);

/// When the server ends a statement about leases: a row that is locked, or a slow disk, is answered before the renewal is given
/// up, and is not taken for a silent network.
const RENEWAL_STATEMENT_TIMEOUT: Duration = Duration::from_millis(2500);

/// A connection of its own to the database of `pool`, for renewing leases and for short questions: nothing else waits for it,
/// and the server ends its statements in time. It is closed with `pool`.
pub fn lease_connection(pool: &PgPool) -> PgPool {
    let limit = RENEWAL_STATEMENT_TIMEOUT.as_millis().to_string();
    pool::beside(pool, "leases", 1, vec![("statement_timeout", limit)], Arc::default())
}

fn in_time(name: &'static str) -> Operation {
    Operation::named(name).within(RENEWAL_TIMEOUT)
}

/// How long leases live and how often they are renewed.
#[derive(Debug, Clone, Copy)]
pub struct LeaseTerms {
    /// Others may take a lease over this long after its last renewal.
    pub ttl: Duration,
    /// Time between renewals; a good part below `ttl`.
    pub renew_every: Duration,
}

impl Default for LeaseTerms {
    fn default() -> Self {
        Self { ttl: Duration::from_secs(8), renew_every: Duration::from_secs(2) }
    }
}

/// The low bits of an epoch that bear the owner's mark; the others count the changes of owner.
const MARK_BITS: i32 = 24;

/// An expiry further ahead than so many times the `ttl` cannot be a renewal's.
const MAX_TTLS_AHEAD: f64 = 2.0;

/// One lease held by this process.
#[derive(Debug)]
pub struct Lease {
    /// Its row.
    pub id: i64,
    /// The fencing token: raised with every change of owner, whose mark it bears.
    pub epoch: i64,
    /// What it is on, within its class.
    pub name: String,
    lost: AtomicBool,
    lost_signal: Notify,
}

impl Lease {
    fn new(id: i64, epoch: i64, name: String) -> Arc<Self> {
        Arc::new(Self { id, epoch, name, lost: AtomicBool::new(false), lost_signal: Notify::new() })
    }

    /// Whether somebody else is known to hold it now.
    pub fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Acquire)
    }

    /// Waits until it is known to be lost.
    pub async fn lost(&self) {
        let signal = self.lost_signal.notified();
        if !self.is_lost() {
            signal.await;
        }
    }

    /// Notes that somebody else holds it: by the renewal, or by whoever met [`Error::Fenced`].
    pub fn mark_lost(&self) {
        self.lost.store(true, Ordering::Release);
        self.lost_signal.notify_waiters();
    }

    /// Refuses with [`Error::Fenced`] unless this lease is still held; nobody can take it over before the
    /// transaction on `connection` ends.
    pub async fn fence(&self, connection: &mut PgConnection) -> Result<()> {
        if mutant("fence_left_out") {
            return Ok(());
        }
        let held: bool = sqlx::query_scalar("SELECT lease_held($1, $2) -- fence")
            .bind(self.id)
            .bind(self.epoch)
            .fetch_one(connection)
            .await?;
        if held { Ok(()) } else { Err(self.fenced()) }
    }

    /// The error that says this lease is lost.
    pub fn fenced(&self) -> Error {
        self.mark_lost();
        Error::Fenced { lease_id: self.id, epoch: self.epoch }
    }
}

/// Everything this process holds, and the task that keeps it.
#[derive(Clone)]
pub struct Leases {
    pool: PgPool,
    owner: Uuid,
    terms: LeaseTerms,
    held: Arc<Mutex<HashMap<i64, Arc<Lease>>>>,
    retired: Arc<AtomicBool>,
    /// When the last renewal that succeeded began.
    renewed_at: Arc<Mutex<Instant>>,
}

impl Leases {
    /// Starts renewing, on a connection of `pool`: one that nothing else waits for. Expired leases of the classes in
    /// `adopt` (such as `lane/orders`) are taken over and sent to `adopted`.
    pub fn start(
        pool: PgPool,
        terms: LeaseTerms,
        adopt: Vec<String>,
        adopted: mpsc::Sender<Arc<Lease>>,
    ) -> (Self, JoinHandle<()>) {
        let leases = Self {
            pool,
            owner: Uuid::new_v4(),
            terms,
            held: Arc::default(),
            retired: Arc::default(),
            renewed_at: Arc::new(Mutex::new(Instant::now())),
        };
        let keeper = leases.clone();
        let task = tokio::spawn(async move {
            let mut tick = tokio::time::interval(terms.renew_every);
            tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                tick.tick().await;
                if let Err(error) = keeper.renew_and_adopt(&adopt, &adopted).await {
                    tracing::warn!(%error, code = "UNAVAILABLE", "leases could not be renewed");
                }
            }
        });
        (leases, task)
    }

    /// Who this process is in the lease table.
    pub fn owner(&self) -> Uuid {
        self.owner
    }

    /// Refuses, saying for how long, when the last renewal is older than what is held may live without one: others may
    /// have taken it over.
    pub fn check_renewed(&self) -> Result<(), String> {
        let since = self.renewed_at.lock().unwrap_or_else(PoisonError::into_inner).elapsed();
        if since <= self.terms.ttl {
            return Ok(());
        }
        Err(format!("leases were last renewed {} s ago", since.as_secs()))
    }

    /// What its epochs bear: random as the owner is.
    fn mark(&self) -> i64 {
        let [.., a, b, c] = *self.owner.as_bytes();
        i64::from(u32::from_be_bytes([0, a, b, c]))
    }

    /// Renews nothing and takes nothing over any more: this process is about to end. What it does not give back
    /// expires.
    pub fn retire(&self) {
        self.retired.store(true, Ordering::Release);
    }

    /// Takes `name` if it is free or expired; `None` if somebody else holds it.
    pub async fn take(&self, class: &str, name: &str) -> Result<Option<Arc<Lease>>> {
        let (owner, mark, ttl) = (self.owner, self.mark(), self.terms.ttl.as_secs_f64());
        let (class, name) = (class.to_owned(), name.to_owned());
        let row: Option<(i64, i64, String)> = run(&self.pool, in_time("take_lease"), move |connection| {
            let (class, name) = (class.clone(), name.clone());
            Box::pin(async move {
                let row = sqlx::query_as(
                    "-- take_lease
                    INSERT INTO leases (class, name, owner, epoch, expires_at)
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
                .bind(owner)
                .bind(ttl)
                .bind(MARK_BITS)
                .bind(mark)
                .bind(ttl * MAX_TTLS_AHEAD)
                .fetch_optional(connection)
                .await?;
                Ok(row)
            })
        })
        .await?;
        Ok(row.map(|(id, epoch, name)| self.keep(id, epoch, name)))
    }

    /// Gives a lease back: it is free at once.
    pub async fn release(&self, lease: &Lease) -> Result<()> {
        self.forget(lease);
        let (id, epoch) = (lease.id, lease.epoch);
        run(&self.pool, in_time("release_lease"), move |connection| {
            Box::pin(async move {
                sqlx::query(
                    "UPDATE leases SET owner = gen_random_uuid(), expires_at = '-infinity',
                            epoch = ((epoch >> $3) + 1) << $3
                     WHERE lease_id = $1 AND epoch = $2 -- release_lease",
                )
                .bind(id)
                .bind(epoch)
                .bind(MARK_BITS)
                .execute(connection)
                .await?;
                Ok(())
            })
        })
        .await
    }

    /// Removes a lease for good, within the caller's transaction. Refused with [`Error::Fenced`] if it is not held.
    pub async fn dissolve_in_tx(&self, connection: &mut PgConnection, lease: &Lease) -> Result<()> {
        let gone = sqlx::query("DELETE FROM leases WHERE lease_id = $1 AND epoch = $2 -- dissolve_lease")
            .bind(lease.id)
            .bind(lease.epoch)
            .execute(connection)
            .await?;
        if gone.rows_affected() == 1 { Ok(()) } else { Err(lease.fenced()) }
    }

    /// Stops renewing a lease that was dissolved or is to run out.
    pub fn forget(&self, lease: &Lease) {
        let mut held = self.held();
        // This process may have taken it again meanwhile.
        if held.get(&lease.id).is_some_and(|kept| kept.epoch == lease.epoch) {
            held.remove(&lease.id);
        }
    }

    /// Keeps what was taken. Of two that this process took at once only the newer one is alive.
    fn keep(&self, id: i64, epoch: i64, name: String) -> Arc<Lease> {
        let lease = Lease::new(id, epoch, name);
        let mut held = self.held();
        match held.get(&id) {
            Some(kept) if kept.epoch > epoch => lease.mark_lost(),
            older => {
                older.into_iter().for_each(|older| older.mark_lost());
                held.insert(id, lease.clone());
            }
        }
        lease
    }

    fn keeps(&self, lease: &Lease) -> bool {
        self.held().get(&lease.id).is_some_and(|kept| kept.epoch == lease.epoch)
    }

    fn held(&self) -> std::sync::MutexGuard<'_, HashMap<i64, Arc<Lease>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn renew_and_adopt(&self, adopt: &[String], adopted: &mpsc::Sender<Arc<Lease>>) -> Result<()> {
        let began = Instant::now();
        if self.retired.load(Ordering::Acquire) {
            return Ok(());
        }
        let mine: Vec<Arc<Lease>> = self.held().values().cloned().collect();
        let room = adopted.capacity() as i64;
        if !mine.is_empty() || (!adopt.is_empty() && room > 0) {
            let rows = self.renewal(&mine, adopt, room).await?;
            self.settle(&mine, rows, adopted);
        }
        *self.renewed_at.lock().unwrap_or_else(PoisonError::into_inner) = began;
        Ok(())
    }

    /// Goes by what a renewal of `mine` found.
    fn settle(
        &self,
        mine: &[Arc<Lease>],
        rows: Vec<(i64, i64, String, bool)>,
        adopted: &mpsc::Sender<Arc<Lease>>,
    ) {
        for lease in mine {
            if !rows.iter().any(|row| row.0 == lease.id && row.1 == lease.epoch) && self.keeps(lease) {
                tracing::warn!(lease = lease.name, epoch = lease.epoch, "lease lost");
                self.forget(lease);
                lease.mark_lost();
            }
        }
        for (id, epoch, name, taken_over) in rows {
            if taken_over {
                tracing::info!(lease = name, epoch, "expired lease taken over");
                // There is room: only this task sends. A closed channel means nobody works here any more.
                let lease = self.keep(id, epoch, name);
                if adopted.try_send(lease.clone()).is_err() {
                    self.forget(&lease);
                }
            }
        }
    }

    /// (lease, epoch, name, taken over) of everything held after this statement.
    async fn renewal(
        &self,
        mine: &[Arc<Lease>],
        adopt: &[String],
        room: i64,
    ) -> Result<Vec<(i64, i64, String, bool)>> {
        let ids: Vec<i64> = mine.iter().map(|lease| lease.id).collect();
        let epochs: Vec<i64> = mine.iter().map(|lease| lease.epoch).collect();
        let classes = adopt.to_vec();
        let (owner, mark, ttl) = (self.owner, self.mark(), self.terms.ttl.as_secs_f64());
        // The mutant: whatever expires later than an hour ago counts as too far ahead.
        let ahead = if mutant("renewal_takes_living_leases") { -3600.0 } else { ttl * MAX_TTLS_AHEAD };
        run(&self.pool, in_time("renew_leases"), move |connection| {
            let (ids, epochs, classes) = (ids.clone(), epochs.clone(), classes.clone());
            Box::pin(async move {
                let rows = sqlx::query_as(RENEW)
                    .bind(ids)
                    .bind(epochs)
                    .bind(owner)
                    .bind(ttl)
                    .bind(classes)
                    .bind(room)
                    .bind(MARK_BITS)
                    .bind(mark)
                    .bind(ahead)
                    .fetch_all(connection)
                    .await?;
                Ok(rows)
            })
        })
        .await
    }
}

const RENEW: &str = "-- renew_leases
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
