//! Work that computes, on threads of its own: with few cores one thread serves everybody, and whatever computes for long on a
//! request's way stops health checks, leases and shutdown.
//!
//! A [`ComputePool`] runs a few pieces of work at a time, lets a few wait, and refuses the rest. What a piece of work may cost is its
//! own affair: a thread cannot be stopped from outside, so the work must end by itself.

use std::num::NonZero;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinError;
use tokio::time::timeout;

use crate::error::{ApiError, ErrorCode};

/// Bodies up to this size, in bytes, are read at once: they cost less than going to another thread and back.
pub const MAX_INLINE_BODY_BYTES: usize = 16 << 10;
/// Most pieces of work of requests that wait.
const MAX_WAITING_REQUESTS: usize = 256;

/// What requests compute.
static REQUEST_POOL: LazyLock<ComputePool> = LazyLock::new(|| {
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    // Never one alone: behind something slow there is still a way for what is quick.
    ComputePool::new("requests", cores.clamp(2, 8), MAX_WAITING_REQUESTS)
});

/// So many threads, and so many places to wait.
pub struct ComputePool {
    name: &'static str,
    thread_permits: Arc<Semaphore>,
    queue_permits: Arc<Semaphore>,
}

/// Why there is no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ComputeError {
    /// Nothing was begun: too much waits already.
    #[error("too much is being computed already")]
    Overloaded,
    /// It has not ended in time. It keeps its thread until it does.
    #[error("computing took too long")]
    TimedOut,
    /// It panicked.
    #[error("computing failed")]
    Panicked,
}

impl ComputePool {
    /// At most `thread_permits` pieces of work at a time, and `waiting` that wait. `name` labels metrics.
    pub fn new(name: &'static str, threads: usize, waiting: usize) -> Self {
        let places = Arc::new(Semaphore::new(threads + waiting));
        Self { name, thread_permits: Arc::new(Semaphore::new(threads)), queue_permits: places }
    }

    /// Does `work` when it is its turn.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ComputeError> {
        let queue_permit = self.queue_permits.clone().try_acquire_owned();
        let place = queue_permit.map_err(|_| {
            metrics::counter!("compute_refused_total", "pool" => self.name).increment(1);
            ComputeError::Overloaded
        })?;
        let thread_permit = self
            .thread_permits
            .clone()
            .acquire_owned()
            .await
            .map_err(|_| ComputeError::Overloaded)?;
        // Both are kept until the work has ended, whoever waits for it.
        let done = store::panics::spawn_blocking_contained(move || {
            let _kept = (place, thread_permit);
            work()
        });
        done.await.map_err(|error| self.panic_error(&error))
    }

    /// [`ComputePool::run_for_request`], given up after `limit`; the waiting counts.
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

/// Does `work` for a request.
pub async fn run_for_request<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ComputeError> {
    REQUEST_POOL.run(work).await
}

/// Reads a body of `size` bytes: at once if it is small.
pub async fn read_body<T: Send + 'static>(
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
        // One thread serves this test: it is free while the work computes.
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
