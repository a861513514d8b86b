//! How the pools of a process behave: sessions with the program's settings, no connection that is suspected to be dead,
//! none that nobody needs any more.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{PgPool, Postgres};
use tokio::time::{Instant, timeout};

use crate::link::Link;
use crate::operation::{ACQUIRE_TIMEOUT, STATEMENT_TIMEOUT};
use crate::places::Places;
use crate::session;

/// What the check of a connection that is given back, and a goodbye, may take.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(3);
/// A pool looks after itself this often.
const TEND_INTERVAL: Duration = Duration::from_secs(1);
/// Connections that a pool could have done without for this long are closed.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// Uses of a pool's connections so far.
type Uses = Arc<AtomicU64>;

/// What belongs to each open pool and has no place in sqlx's.
static POOLS: LazyLock<Mutex<Vec<OfPool>>> = LazyLock::new(Mutex::default);

type Session = Arc<session::Settings>;

struct OfPool {
    /// Tells the pool apart: each has its own allocation of them.
    options: Weak<PgConnectOptions>,
    /// Those of a pool beside it are the same, and sqlx keeps a pool's hooks to itself.
    session: Session,
    places: Places,
    /// When the server ends a statement, unless the operation says otherwise.
    statement_timeout: Duration,
}

/// A pool of at most `max_connections`, none of them made yet.
pub(crate) fn open(options: PgConnectOptions, session: session::Settings, max_connections: u32) -> PgPool {
    begin(options, Arc::new(session), max_connections, Arc::default())
}

/// Like `pool`, with connections of its own, counted in `made` before their first statement, whose sessions have these
/// settings besides; it is closed with `pool`.
pub(crate) fn beside(
    pool: &PgPool,
    name: &str,
    max_connections: u32,
    more: session::Settings,
    made: Arc<AtomicU64>,
) -> PgPool {
    let connect = pool.connect_options();
    let program = connect.get_application_name().unwrap_or_default().split('/').next().unwrap_or_default();
    let name = format!("{program}/{name}");
    let session = Arc::new([(*session_of(&connect)).clone(), more].concat());
    let own = begin((*connect).clone().application_name(&name), session, max_connections, made);
    let (closed, closing) = (pool.close_event(), own.clone());
    tokio::spawn(async move {
        tokio::select! {
            () = closed => closing.close().await,
            () = closing.close_event() => {}
        }
    });
    own
}

/// The settings of a pool's sessions.
pub(crate) fn session_of(options: &Arc<PgConnectOptions>) -> Session {
    of_pool(options, |pool| pool.session.clone()).unwrap_or_default()
}

/// The places for a pool's expensive operations.
pub(crate) fn places_of(pool: &PgPool) -> Places {
    let known = of_pool(&pool.connect_options(), |pool| pool.places.clone());
    known.unwrap_or_else(|| Places::of(pool.options().get_max_connections()))
}

/// When the server ends a statement of this pool, unless the operation says otherwise.
pub(crate) fn statement_timeout_of(pool: &PgPool) -> Duration {
    of_pool(&pool.connect_options(), |pool| pool.statement_timeout).unwrap_or(STATEMENT_TIMEOUT)
}

fn of_pool<T>(options: &Arc<PgConnectOptions>, what: impl Fn(&OfPool) -> T) -> Option<T> {
    let pools = POOLS.lock().unwrap_or_else(PoisonError::into_inner);
    pools.iter().find(|pool| pool.options.as_ptr() == Arc::as_ptr(options)).map(what)
}

fn remember(pool: &PgPool, session: Session) {
    let places = Places::of(pool.options().get_max_connections());
    let statement_timeout = session::statement_timeout(&session).unwrap_or(STATEMENT_TIMEOUT);
    let mut pools = POOLS.lock().unwrap_or_else(PoisonError::into_inner);
    pools.retain(|pool| pool.options.strong_count() > 0);
    pools.push(OfPool {
        options: Arc::downgrade(&pool.connect_options()),
        session,
        places,
        statement_timeout,
    });
}

fn begin(options: PgConnectOptions, session: Session, max_connections: u32, made: Arc<AtomicU64>) -> PgPool {
    let (uses, link) = (Uses::default(), Link::to(&options));
    let (counted, opened, label) = (uses.clone(), session.clone(), label(&options));
    let pool = PgPoolOptions::new()
        .max_connections(max_connections)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        // By `tend`: sqlx hands the longest unused one out first, so that none of them is ever idle for long, and looks as
        // often as it lets them be idle, which starts their time anew.
        .idle_timeout(None)
        // A ping before each use would cost a round trip; a dead connection shows as a transient error instead.
        .test_before_acquire(false)
        .after_connect(move |connection, _| {
            made.fetch_add(1, Ordering::AcqRel);
            let session = opened.clone();
            Box::pin(async move { session::open(connection, &session).await })
        })
        .before_acquire(move |_, connection| {
            counted.fetch_add(1, Ordering::Relaxed);
            let trusted = link.trusts(connection.age);
            Box::pin(std::future::ready(Ok(trusted)))
        })
        .connect_lazy_with(options);
    remember(&pool, session);
    tokio::spawn(tend(pool.clone(), uses, label));
    pool
}

/// What the pool is called in the figures: the part of the application's name that tells pools apart.
fn label(options: &PgConnectOptions) -> String {
    let name = options.get_application_name().unwrap_or_default();
    name.split_once('/').map_or(name, |(_, pool)| pool).to_owned()
}

/// Gives a connection back. sqlx asks it first whether it is alive, without a limit.
pub(crate) fn give_back(mut connection: PoolConnection<Postgres>, options: Arc<PgConnectOptions>) {
    tokio::spawn(async move {
        if timeout(GOODBYE_TIMEOUT, connection.return_to_pool()).await.is_err() {
            Link::to(&options).suspect();
        }
    });
}

/// Closes a connection that gives no answer, without a word to it; the pool has room for another one at once.
pub(crate) fn discard(connection: PoolConnection<Postgres>) {
    drop(connection.detach());
}

/// Closes what is not needed, and counts, until the pool is closed.
async fn tend(pool: PgPool, uses: Uses, label: String) {
    let (mut counted, mut need) = (0, Need::default());
    let gauge = metrics::gauge!("store_connections", "pool" => label);
    let mut closed = std::pin::pin!(pool.close_event());
    loop {
        let ended = timeout(TEND_INTERVAL, closed.as_mut()).await.is_ok();
        let size = if ended { 0 } else { pool.size() };
        gauge.increment(f64::from(size) - f64::from(counted));
        counted = size;
        if ended {
            return;
        }
        for _ in 0..need.beyond(size, pool.num_idle(), uses.load(Ordering::Relaxed), Instant::now()) {
            let Some(connection) = pool.try_acquire() else { break };
            let _ = timeout(GOODBYE_TIMEOUT, connection.close()).await;
        }
    }
}

/// What a pool has needed of late.
struct Need {
    size: u32,
    uses: u64,
    /// When it was last used.
    used_at: Instant,
    /// When it last grew.
    grew_at: Instant,
}

impl Default for Need {
    fn default() -> Self {
        let now = Instant::now();
        Self { size: 0, uses: 0, used_at: now, grew_at: now }
    }
}

impl Need {
    /// How many of the idle connections are to be closed: all of a pool that is not used; of another one a single one, when
    /// it has not needed one more for a while. If that was one too many it grows again and is left alone for as long.
    fn beyond(&mut self, size: u32, idle: usize, uses: u64, now: Instant) -> usize {
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
        let (begun, mut need) = (Instant::now(), Need::default());
        let at = |seconds| begun + Duration::from_secs(seconds);
        assert_eq!(need.beyond(8, 8, 8, at(1)), 0, "just grown");
        // Asked once a second, by turns.
        assert_eq!((2..31).map(|s| need.beyond(8, 8, 8 + s, at(s))).sum::<usize>(), 0);
        assert_eq!(need.beyond(8, 8, 40, at(31)), 1, "longer than it takes, one after the other");
        assert_eq!(need.beyond(7, 7, 41, at(32)), 1);
        assert_eq!(need.beyond(6, 0, 42, at(33)), 0, "all in use");
        assert_eq!(need.beyond(7, 7, 43, at(34)), 0, "one was missed: a while without another try");
        assert_eq!(need.beyond(7, 7, 44, at(63)), 0);
        assert_eq!(need.beyond(7, 7, 45, at(64)), 1);
        assert_eq!(need.beyond(1, 1, 46, at(65)), 0, "the last one of a pool that is used stays");
        assert_eq!(need.beyond(1, 1, 46, at(95)), 1, "nobody uses it");
    }
}
