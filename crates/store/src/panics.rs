//! Whom a panic concerns. Where somebody is told of it (the order that fails, the caller who gets an error) it is contained and
//! the process goes on. Anywhere else it ends a task that nobody waits for, and with it something that the process is there for:
//! such a process must not go on as if nothing had been. `serving::logs` decides so when a panic happens.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use futures::FutureExt as _;
use tokio::task::{JoinHandle, spawn_blocking};

tokio::task_local! {
    static CONTAINED: ();
}

/// What a panic said.
pub type PanicPayload = Box<dyn Any + Send>;

/// Whether somebody is told of a panic at this point.
pub fn is_panic_contained() -> bool {
    CONTAINED.try_with(|()| ()).is_ok()
}

/// Work whose panic is an answer like others.
pub fn catch_panic<F: Future>(work: F) -> impl Future<Output = Result<F::Output, PanicPayload>> {
    contain_panic(AssertUnwindSafe(work).catch_unwind())
}

/// Work in a task whose end somebody waits for, and who hears of a panic by it.
pub fn contain_panic<F: Future>(work: F) -> impl Future<Output = F::Output> {
    CONTAINED.scope((), work)
}

/// [`catch_panic`], for what waits for nothing.
pub fn catch_panic_sync<T>(work: impl FnOnce() -> T) -> Result<T, PanicPayload> {
    CONTAINED.sync_scope((), || catch_unwind(AssertUnwindSafe(work)))
}

/// Work on a thread of its own, whose panic is the error of whoever waits for it.
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
