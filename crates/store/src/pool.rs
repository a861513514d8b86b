//! Construction and maintenance of connection pools.
//!
//! - Shape: each pool has session settings, a use counter and permits for expensive operations; a
//!   pool opened beside another shares its settings and closes with it.
//! - Cost: no ping before use. A connection older than the last unanswered statement is discarded;
//!   surplus idle connections are closed after 30 s.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{PgPool, Postgres};
use tokio::time::{Instant, timeout};

use crate::expensive_permits::ExpensivePermits;
use crate::link::DatabaseLink;
use crate::operation::{ACQUIRE_TIMEOUT, STATEMENT_TIMEOUT};
use crate::session;

/// Timeout of sqlx's check when a connection is returned, and of a graceful close.
const RETURN_TIMEOUT: Duration = Duration::from_secs(3);
/// Interval of pool maintenance.
const MAINTENANCE_INTERVAL: Duration = Duration::from_secs(1);
/// Surplus connections are closed after this time.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// Number of acquires of a pool so far.
type PoolUseCount = Arc<AtomicU64>;

/// Data of each open pool that sqlx's pool cannot hold.
static OPEN_POOLS: LazyLock<Mutex<Vec<PoolEntry>>> = LazyLock::new(Mutex::default);

type PoolSession = Arc<session::SessionSettings>;

struct PoolEntry {
    /// Identity of the pool: each has a separate allocation of its options.
    options: Weak<PgConnectOptions>,
    /// Session settings; a pool opened beside this one reuses them, and sqlx does not
    /// expose a pool's hooks.
    session: PoolSession,
    expensive_permits: ExpensivePermits,
    /// Server-side statement timeout of the sessions.
    statement_timeout: Duration,
}

/// Opens a pool of at most `max_connections`; connects lazily.
pub(crate) fn open_pool(
    options: PgConnectOptions,
    session: session::SessionSettings,
    max_connections: u32,
) -> PgPool {
    build_pool(options, Arc::new(session), max_connections, Arc::default())
}

/// Opens a pool beside `pool`, with separate connections and additional session settings.
/// `connection_count` counts each new connection before its first statement. It
/// is closed with `pool`.
pub(crate) fn open_pool_beside(
    pool: &PgPool,
    name: &str,
    max_connections: u32,
    extra_settings: session::SessionSettings,
    connection_count: Arc<AtomicU64>,
) -> PgPool {
    let connect = pool.connect_options();
    let program =
        connect.get_application_name().unwrap_or_default().split('/').next().unwrap_or_default();
    let name = format!("{program}/{name}");
    let session = Arc::new([(*pool_session(&connect)).clone(), extra_settings].concat());
    let new_pool = build_pool(
        (*connect).clone().application_name(&name),
        session,
        max_connections,
        connection_count,
    );
    let (closed, closing) = (pool.close_event(), new_pool.clone());
    tokio::spawn(async move {
        tokio::select! {
            () = closed => closing.close().await,
            () = closing.close_event() => {}
        }
    });
    new_pool
}

/// Session settings of a pool.
pub(crate) fn pool_session(options: &Arc<PgConnectOptions>) -> PoolSession {
    find_pool_entry(options, |pool| pool.session.clone()).unwrap_or_default()
}

/// Permits for a pool's expensive operations.
pub(crate) fn expensive_permits_of(pool: &PgPool) -> ExpensivePermits {
    let known = find_pool_entry(&pool.connect_options(), |pool| pool.expensive_permits.clone());
    known
        .unwrap_or_else(|| ExpensivePermits::with_connections(pool.options().get_max_connections()))
}

/// Server-side statement timeout of a pool's sessions.
pub(crate) fn pool_statement_timeout(pool: &PgPool) -> Duration {
    find_pool_entry(&pool.connect_options(), |pool| pool.statement_timeout)
        .unwrap_or(STATEMENT_TIMEOUT)
}

fn find_pool_entry<T>(
    options: &Arc<PgConnectOptions>,
    read: impl Fn(&PoolEntry) -> T,
) -> Option<T> {
    let pools = OPEN_POOLS.lock().unwrap_or_else(PoisonError::into_inner);
    pools.iter().find(|pool| pool.options.as_ptr() == Arc::as_ptr(options)).map(read)
}

fn register_pool(pool: &PgPool, session: PoolSession) {
    let expensive_permits =
        ExpensivePermits::with_connections(pool.options().get_max_connections());
    let statement_timeout = session::find_statement_timeout(&session).unwrap_or(STATEMENT_TIMEOUT);
    let mut pools = OPEN_POOLS.lock().unwrap_or_else(PoisonError::into_inner);
    pools.retain(|pool| pool.options.strong_count() > 0);
    pools.push(PoolEntry {
        options: Arc::downgrade(&pool.connect_options()),
        session,
        expensive_permits,
        statement_timeout,
    });
}

fn build_pool(
    options: PgConnectOptions,
    session: PoolSession,
    max_connections: u32,
    connection_count: Arc<AtomicU64>,
) -> PgPool {
    let (uses, link) = (PoolUseCount::default(), DatabaseLink::for_options(&options));
    let (counted, opened, label) = (uses.clone(), session.clone(), pool_label(&options));
    let pool = PgPoolOptions::new()
        .max_connections(max_connections)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        // `maintain_pool` does this: sqlx acquires the longest-idle connection first, so no
        // connection is ever idle for long, and its idle check restarts their idle time.
        .idle_timeout(None)
        // A ping before each use would cost a round trip; a dead connection causes
        // a transient error instead.
        .test_before_acquire(false)
        .after_connect(move |connection, _| {
            connection_count.fetch_add(1, Ordering::AcqRel);
            let session = opened.clone();
            Box::pin(async move { session::open_session(connection, &session).await })
        })
        .before_acquire(move |_, connection| {
            counted.fetch_add(1, Ordering::Relaxed);
            let trusted = link.can_trust(connection.age);
            Box::pin(std::future::ready(Ok(trusted)))
        })
        .connect_lazy_with(options);
    register_pool(&pool, session);
    tokio::spawn(maintain_pool(pool.clone(), uses, label));
    pool
}

/// Metric label of the pool: the part of the application name after the slash.
fn pool_label(options: &PgConnectOptions) -> String {
    let name = options.get_application_name().unwrap_or_default();
    name.split_once('/').map_or(name, |(_, pool)| pool).to_owned()
}

/// Returns a connection to its pool. sqlx first pings it without a timeout.
pub(crate) fn return_connection(
    mut connection: PoolConnection<Postgres>,
    options: Arc<PgConnectOptions>,
) {
    tokio::spawn(async move {
        if timeout(RETURN_TIMEOUT, connection.return_to_pool()).await.is_err() {
            DatabaseLink::for_options(&options).mark_suspected();
        }
    });
}

/// Drops a silent connection without a graceful close; its slot in the pool is free immediately.
pub(crate) fn discard_connection(connection: PoolConnection<Postgres>) {
    drop(connection.detach());
}

/// Closes surplus connections and updates the gauge until the pool is closed.
async fn maintain_pool(pool: PgPool, uses: PoolUseCount, label: String) {
    let (mut counted, mut need) = (0, PoolDemand::default());
    let gauge = metrics::gauge!("store_connections", "pool" => label);
    let mut closed = std::pin::pin!(pool.close_event());
    loop {
        let ended = timeout(MAINTENANCE_INTERVAL, closed.as_mut()).await.is_ok();
        let size = if ended { 0 } else { pool.size() };
        gauge.increment(f64::from(size) - f64::from(counted));
        counted = size;
        if ended {
            return;
        }
        for _ in 0..need.count_excess(
            size,
            pool.num_idle(),
            uses.load(Ordering::Relaxed),
            Instant::now(),
        ) {
            let Some(connection) = pool.try_acquire() else { break };
            let _ = timeout(RETURN_TIMEOUT, connection.close()).await;
        }
    }
}

/// Recent demand for a pool's connections.
struct PoolDemand {
    size: u32,
    uses: u64,
    /// Time of the last use.
    used_at: Instant,
    /// Time of the last growth.
    grew_at: Instant,
}

impl Default for PoolDemand {
    fn default() -> Self {
        let now = Instant::now();
        Self { size: 0, uses: 0, used_at: now, grew_at: now }
    }
}

impl PoolDemand {
    /// Number of idle connections to close: all of an unused pool; one of a used pool that has not
    /// grown for a while. If that was one too many, the pool grows again and is left
    /// alone for as long.
    fn count_excess(&mut self, size: u32, idle: usize, uses: u64, now: Instant) -> usize {
        if size > self.size {
            (self.used_at, self.grew_at) = (now, now);
        }
        if uses != self.uses {
            self.used_at = now;
        }
        (self.size, self.uses) = (size, uses);
        if now - self.used_at >= IDLE_TIMEOUT {
            idle
        } else if now - self.grew_at >= IDLE_TIMEOUT && size > 1 {
            idle.min(1)
        } else {
            0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_shrinks_to_what_it_needs() {
        let (begun, mut need) = (Instant::now(), PoolDemand::default());
        let at = |seconds| begun + Duration::from_secs(seconds);
        assert_eq!(need.count_excess(8, 8, 8, at(1)), 0, "just grown");
        // One use per second, in rotation.
        assert_eq!((2..31).map(|s| need.count_excess(8, 8, 8 + s, at(s))).sum::<usize>(), 0);
        assert_eq!(
            need.count_excess(8, 8, 40, at(31)),
            1,
            "longer than it takes, one after the other"
        );
        assert_eq!(need.count_excess(7, 7, 41, at(32)), 1);
        assert_eq!(need.count_excess(6, 0, 42, at(33)), 0, "all in use");
        assert_eq!(
            need.count_excess(7, 7, 43, at(34)),
            0,
            "one was missed: a while without another try"
        );
        assert_eq!(need.count_excess(7, 7, 44, at(63)), 0);
        assert_eq!(need.count_excess(7, 7, 45, at(64)), 1);
        assert_eq!(
            need.count_excess(1, 1, 46, at(65)),
            0,
            "the last one of a pool that is used stays"
        );
        assert_eq!(need.count_excess(1, 1, 46, at(95)), 1, "nobody uses it");
    }
}
