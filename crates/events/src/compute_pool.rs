//! Thread pool for long computations of the event path: compiling the config index, matching,
//! rendering.

use std::io;
use std::sync::LazyLock;

use serving::compute::{ComputeError, ComputePool};
use store::Result;

/// Its queue holds event writers, each of which waits for one computation at a time.
static EVENT_COMPUTE_POOL: LazyLock<ComputePool> =
    LazyLock::new(|| ComputePool::new("events", 2, 1024));

/// Runs a long computation of the event path on the thread pool.
pub(crate) async fn compute_on_pool<T: Send + 'static>(
    computation: impl FnOnce() -> T + Send + 'static,
) -> Result<T> {
    EVENT_COMPUTE_POOL.run(computation).await.map_err(|error| match error {
        // Transient: the writer retries.
        ComputeError::Overloaded | ComputeError::TimedOut => {
            sqlx::Error::Io(io::Error::other(error)).into()
        }
        ComputeError::Panicked => store::Error::Abandoned,
    })
}
