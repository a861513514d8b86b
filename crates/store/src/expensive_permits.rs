//! Semaphore for a pool's expensive operations: a third of its connections, with a
//! bounded number of waiters.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::operation::ACQUIRE_TIMEOUT;
use crate::{Error, Result};

/// Maximum number of waiting operations; further ones fail.
const MAX_WAITING_OPERATIONS: usize = 64;

/// Permits of one pool.
#[derive(Debug, Clone)]
pub(crate) struct ExpensivePermits {
    semaphore: Arc<Semaphore>,
    waiting_count: Arc<AtomicUsize>,
}

impl ExpensivePermits {
    /// Permits for a pool with this many connections: a third, at least one.
    pub(crate) fn with_connections(max_connections: u32) -> Self {
        let third = max_connections as usize / 3;
        Self { semaphore: Arc::new(Semaphore::new(third.max(1))), waiting_count: Arc::default() }
    }

    /// Acquires a permit. Fails like an exhausted pool after [`ACQUIRE_TIMEOUT`], or immediately
    /// when [`MAX_WAITING_OPERATIONS`] others wait.
    pub(crate) async fn acquire(&self) -> Result<OwnedSemaphorePermit> {
        if let Ok(permit) = self.semaphore.clone().try_acquire_owned() {
            return Ok(permit);
        }
        let _waits = PermitWait::start(&self.waiting_count)?;
        match timeout(ACQUIRE_TIMEOUT, self.semaphore.clone().acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(pool_full_error()),
        }
    }
}

/// Counts one waiter until dropped.
struct PermitWait<'a>(&'a AtomicUsize);

impl<'a> PermitWait<'a> {
    fn start(waiting: &'a AtomicUsize) -> Result<Self> {
        if waiting.fetch_add(1, Ordering::AcqRel) < MAX_WAITING_OPERATIONS {
            return Ok(Self(waiting));
        }
        waiting.fetch_sub(1, Ordering::AcqRel);
        Err(pool_full_error())
    }
}

impl Drop for PermitWait<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

fn pool_full_error() -> Error {
    Error::from(sqlx::Error::PoolTimedOut)
}
