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
pub type Panic = Box<dyn Any + Send>;

/// Whether somebody is told of a panic at this point.
pub fn is_contained() -> bool {
    CONTAINED.try_with(|()| ()).is_ok()
}

/// Work whose panic is an answer like others.
pub fn caught<F: Future>(work: F) -> impl Future<Output = Result<F::Output, Panic>> {
    told(AssertUnwindSafe(work).catch_unwind())
}

/// Work in a task whose end somebody waits for, and who hears of a panic by it.
pub fn told<F: Future>(work: F) -> impl Future<Output = F::Output> {
    CONTAINED.scope((), work)
}

/// [`caught`], for what waits for nothing.
pub fn caught_here<T>(work: impl FnOnce() -> T) -> Result<T, Panic> {
    CONTAINED.sync_scope((), || catch_unwind(AssertUnwindSafe(work)))
}

/// Work on a thread of its own, whose panic is the error of whoever waits for it.
pub fn told_blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    spawn_blocking(move || CONTAINED.sync_scope((), work))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_contained_knows_it_and_what_it_starts_does_not() {
        assert!(!is_contained());
        let (inside, started) = caught(async {
            let started = tokio::spawn(async { is_contained() }).await.unwrap();
            (is_contained(), started)
        })
        .await
        .unwrap();
        assert_eq!((inside, started), (true, false));
        assert!(told_blocking(is_contained).await.unwrap());
        assert!(caught_here(is_contained).unwrap());
        assert!(!is_contained());
    }
}
