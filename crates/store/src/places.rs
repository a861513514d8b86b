//! Places for a pool's expensive operations: a third of its connections, and a line of bounded length before them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::operation::ACQUIRE_TIMEOUT;
use crate::{Error, Result};

/// More do not wait for a place.
const MAX_WAITING: usize = 64;

/// The places of one pool.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    free: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
}

impl Places {
    /// Of a pool with so many connections: one at least.
    pub(crate) fn of(max_connections: u32) -> Self {
        let third = max_connections as usize / 3;
        Self { free: Arc::new(Semaphore::new(third.max(1))), waiting: Arc::default() }
    }

    /// A place. Nobody waits for longer than for a connection, nor behind more than [`MAX_WAITING`] others: then the pool
    /// has none to give.
    pub(crate) async fn take(&self) -> Result<OwnedSemaphorePermit> {
        if let Ok(place) = self.free.clone().try_acquire_owned() {
            return Ok(place);
        }
        let _waits = Waits::begin(&self.waiting)?;
        match timeout(ACQUIRE_TIMEOUT, self.free.clone().acquire_owned()).await {
            Ok(Ok(place)) => Ok(place),
            _ => Err(full()),
        }
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
