//! State of the network path to a database, shared by all pools on it: since
//! when connections are suspect.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sqlx::postgres::PgConnectOptions;

/// Host, port, socket and database.
type DatabaseAddress = (String, u16, Option<PathBuf>, String);

static DATABASE_LINKS: LazyLock<Mutex<HashMap<DatabaseAddress, Arc<DatabaseLink>>>> =
    LazyLock::new(Mutex::default);
/// Origin of the suspicion times.
static CLOCK_START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Network path to one database.
#[derive(Debug, Default)]
pub(crate) struct DatabaseLink {
    /// Microseconds since [`CLOCK_START`]; 0 means never.
    suspected_at: AtomicU64,
}

impl DatabaseLink {
    pub(crate) fn for_options(options: &PgConnectOptions) -> Arc<Self> {
        let address = (
            options.get_host().to_owned(),
            options.get_port(),
            options.get_socket().cloned(),
            options.get_database().unwrap_or_default().to_owned(),
        );
        DATABASE_LINKS
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(address)
            .or_default()
            .clone()
    }

    /// Records that a connection did not answer: idle connections opened before now
    /// are probably dead, too.
    pub(crate) fn mark_suspected(&self) {
        self.suspected_at
            .fetch_max(to_microseconds(CLOCK_START.elapsed()).max(1), Ordering::AcqRel);
    }

    /// Whether a connection of this age was opened after the last suspicion.
    pub(crate) fn can_trust(&self, age: Duration) -> bool {
        to_microseconds(CLOCK_START.elapsed().saturating_sub(age))
            >= self.suspected_at.load(Ordering::Acquire)
    }
}

fn to_microseconds(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
