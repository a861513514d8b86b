//! CPU-bound work on blocking threads. On a machine with few cores one thread runs all async tasks:
//! long computations on it would block health checks, leases and shutdown.
//!
//! - Shape: a [`ComputePool`] runs a few jobs concurrently, queues a few and rejects the rest.
//! - Cost: a thread cannot be stopped from outside, so each job must bound its own cost.

use std::num::NonZero;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinError;
use tokio::time::timeout;

use crate::error::{ApiError, ErrorCode};

/// Bodies up to this size in bytes are parsed inline, which is cheaper than a thread switch.
pub const MAX_INLINE_BODY_BYTES: usize = 16 << 10;
/// Maximum number of queued jobs of requests.
const MAX_WAITING_REQUESTS: usize = 256;

/// The pool for request processing.
static REQUEST_POOL: LazyLock<ComputePool> = LazyLock::new(|| {
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    // At least two threads, so that one slow job does not block fast ones.
    ComputePool::new("requests", cores.clamp(2, 8), MAX_WAITING_REQUESTS)
});

/// A pool with a limited number of threads and a bounded queue.
pub struct ComputePool {
    name: &'static str,
    thread_permits: Arc<Semaphore>,
    queue_permits: Arc<Semaphore>,
}

/// Why a job has no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ComputeError {
    /// The queue is full; the job was not started.
    #[error("too much is being computed already")]
    Overloaded,
    /// The job exceeded its timeout; it occupies its thread until it ends.
    #[error("computing took too long")]
    TimedOut,
    /// The job panicked.
    #[error("computing failed")]
    Panicked,
}

impl ComputePool {
    /// At most `threads` jobs run and `waiting` jobs are queued. `name` labels metrics.
    pub fn new(name: &'static str, threads: usize, waiting: usize) -> Self {
        let queue_permits = Arc::new(Semaphore::new(threads + waiting));
        Self { name, thread_permits: Arc::new(Semaphore::new(threads)), queue_permits }
    }

    /// Runs `work` on a pool thread, after the jobs queued before.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ComputeError> {
        let queue_permit = self.queue_permits.clone().try_acquire_owned();
        let queue_permit = queue_permit.map_err(|_| {
            metrics::counter!("compute_refused_total", "pool" => self.name).increment(1);
            ComputeError::Overloaded
        })?;
        let thread_permit = self
            .thread_permits
            .clone()
            .acquire_owned()
            .await
            .map_err(|_| ComputeError::Overloaded)?;
        // Both permits are held until the job ends, even if the caller is cancelled.
        let done = store::panics::spawn_blocking_contained(move || {
            let _kept = (queue_permit, thread_permit);
            work()
        });
        done.await.map_err(|error| self.panic_error(&error))
    }

    /// [`ComputePool::run`] with a timeout, which includes the time in the queue.
    pub async fn run_with_timeout<T: Send + 'static>(
        &self,
        limit: Duration,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ComputeError> {
        timeout(limit, self.run(work)).await.unwrap_or(Err(ComputeError::TimedOut))
    }

    fn panic_error(&self, error: &JoinError) -> ComputeError {
        tracing::error!(pool = self.name, %error, code = "LOGIC_ERROR", "computing failed");
        ComputeError::Panicked
    }
}

/// Runs `work` in the pool for requests.
pub async fn run_for_request<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ComputeError> {
    REQUEST_POOL.run(work).await
}

/// Parses a body of `size` bytes: inline if it is small.
pub async fn parse_by_size<T: Send + 'static>(
    size: usize,
    read: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    if size <= MAX_INLINE_BODY_BYTES { read() } else { run_for_request(read).await? }
}

impl From<ComputeError> for ApiError {
    fn from(error: ComputeError) -> Self {
        let code = match error {
            ComputeError::Overloaded => ErrorCode::Overloaded,
            ComputeError::TimedOut => ErrorCode::Timeout,
            ComputeError::Panicked => ErrorCode::InternalError,
        };
        ApiError::new(code, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn a_pool_runs_some_keeps_some_waiting_and_refuses_the_rest() {
        let pool = Arc::new(ComputePool::new("test", 1, 1));
        let (go_on, held) = mpsc::channel::<()>();
        let first = tokio::spawn({
            let pool = pool.clone();
            async move { pool.run(move || held.recv().is_ok()).await }
        });
        while pool.thread_permits.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        // The test runtime has one thread; it stays free while the job runs.
        let second = pool.run_with_timeout(Duration::from_millis(20), || 2).await;
        assert_eq!(second, Err(ComputeError::TimedOut), "it waited for its turn");
        let waiting = tokio::spawn({
            let pool = pool.clone();
            async move { pool.run(|| 3).await }
        });
        while pool.queue_permits.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(pool.run(|| 4).await, Err(ComputeError::Overloaded));
        go_on.send(()).unwrap();
        assert_eq!((first.await.unwrap(), waiting.await.unwrap()), (Ok(true), Ok(3)));
        assert_eq!(pool.run(|| 5).await, Ok(5), "there is room again");
    }

    #[tokio::test]
    async fn what_is_given_up_keeps_its_thread_until_it_ends() {
        let pool = ComputePool::new("test", 1, 0);
        let (go_on, held) = mpsc::channel::<()>();
        let given_up =
            pool.run_with_timeout(Duration::from_millis(20), move || held.recv().is_ok()).await;
        assert_eq!(given_up, Err(ComputeError::TimedOut));
        assert_eq!(pool.run(|| 1).await, Err(ComputeError::Overloaded));
        go_on.send(()).unwrap();
        while pool.queue_permits.available_permits() == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(pool.run(|| 1).await, Ok(1));
    }
}
