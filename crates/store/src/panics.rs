//! Panic containment. A panic is contained where it becomes an error for a caller (a failed order,
//! an error answer), and the process continues. Any other panic ends a task that no caller awaits,
//! and a process without that task must not continue: `serving::logs` ends it.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use futures::FutureExt as _;
use tokio::task::{JoinHandle, spawn_blocking};

tokio::task_local! {
    static CONTAINED: ();
}

/// Payload of a panic.
pub type PanicPayload = Box<dyn Any + Send>;

/// Whether a panic at this point is contained.
pub fn is_panic_contained() -> bool {
    CONTAINED.try_with(|()| ()).is_ok()
}

/// Runs work and returns its panic as an error.
pub fn catch_panic<F: Future>(work: F) -> impl Future<Output = Result<F::Output, PanicPayload>> {
    contain_panic(AssertUnwindSafe(work).catch_unwind())
}

/// Runs work in a task whose awaiter receives the panic as a join error.
pub fn contain_panic<F: Future>(work: F) -> impl Future<Output = F::Output> {
    CONTAINED.scope((), work)
}

/// [`catch_panic`] for synchronous work.
pub fn catch_panic_sync<T>(work: impl FnOnce() -> T) -> Result<T, PanicPayload> {
    CONTAINED.sync_scope((), || catch_unwind(AssertUnwindSafe(work)))
}

/// Runs work on a blocking thread; the awaiter receives its panic as a join error.
pub fn spawn_blocking_contained<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> JoinHandle<T> {
    spawn_blocking(move || CONTAINED.sync_scope((), work))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_contained_knows_it_and_what_it_starts_does_not() {
        assert!(!is_panic_contained());
        let (inside, started) = catch_panic(async {
            let started = tokio::spawn(async { is_panic_contained() }).await.unwrap();
            (is_panic_contained(), started)
        })
        .await
        .unwrap();
        assert_eq!((inside, started), (true, false));
        assert!(spawn_blocking_contained(is_panic_contained).await.unwrap());
        assert!(catch_panic_sync(is_panic_contained).unwrap());
        assert!(!is_panic_contained());
    }
}
