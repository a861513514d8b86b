//! What a process knows of the way to a database, shared by all its pools on it: since when connections are not trusted,
//! and who has a place for an expensive operation.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use sqlx::PgPool;
use sqlx::postgres::PgConnectOptions;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use crate::pool::ACQUIRE_TIMEOUT;
use crate::{Error, Result};

/// Host, port, socket and database.
type Address = (String, u16, Option<PathBuf>, String);

static LINKS: LazyLock<Mutex<HashMap<Address, Arc<Link>>>> = LazyLock::new(Mutex::default);
/// What the moments of suspicion are counted from.
static BEGUN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// The way to one database.
#[derive(Debug, Default)]
pub(crate) struct Link {
    /// In microseconds since [`BEGUN`]; 0: never.
    suspected_at: AtomicU64,
    /// Places for expensive operations, and those who wait for one.
    places: OnceLock<Semaphore>,
    waiting: AtomicUsize,
}

/// More do not wait for a place.
const MAX_WAITING: usize = 64;

impl Link {
    pub(crate) fn to(options: &PgConnectOptions) -> Arc<Self> {
        let address = (
            options.get_host().to_owned(),
            options.get_port(),
            options.get_socket().cloned(),
            options.get_database().unwrap_or_default().to_owned(),
        );
        LINKS.lock().unwrap_or_else(PoisonError::into_inner).entry(address).or_default().clone()
    }

    /// A place for an expensive operation on `pool`. Nobody waits for longer than for a connection, nor behind more than
    /// [`MAX_WAITING`] others: then the pool has none to give.
    pub(crate) async fn place(&self, pool: &PgPool) -> Result<SemaphorePermit<'_>> {
        let third = pool.options().get_max_connections() as usize / 3;
        let places = self.places.get_or_init(|| Semaphore::new(third.max(1)));
        if let Ok(place) = places.try_acquire() {
            return Ok(place);
        }
        let _waits = Waits::begin(&self.waiting)?;
        match timeout(ACQUIRE_TIMEOUT, places.acquire()).await {
            Ok(Ok(place)) => Ok(place),
            _ => Err(full()),
        }
    }

    /// A connection gave no answer: probably those that were made before now and wait unused are as dead.
    pub(crate) fn suspect(&self) {
        self.suspected_at.fetch_max(micros(BEGUN.elapsed()).max(1), Ordering::AcqRel);
    }

    /// Whether a connection of this age was made after the last suspicion.
    pub(crate) fn trusts(&self, age: Duration) -> bool {
        micros(BEGUN.elapsed().saturating_sub(age)) >= self.suspected_at.load(Ordering::Acquire)
    }
}

/// One of those who wait, for as long as it does.
struct Waits<'a>(&'a AtomicUsize);

impl<'a> Waits<'a> {
    fn begin(waiting: &'a AtomicUsize) -> Result<Self> {
        if waiting.fetch_add(1, Ordering::AcqRel) < MAX_WAITING {
            return Ok(Self(waiting));
        }
        waiting.fetch_sub(1, Ordering::AcqRel);
        Err(full())
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

fn full() -> Error {
    Error::from(sqlx::Error::PoolTimedOut)
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
