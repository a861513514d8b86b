//! What tasks of action configs report of themselves: each change of status, in its transaction.

use futures::future::BoxFuture;
use sqlx::PgConnection;
use store::Result;

use crate::Status;

/// The task has been begun for the first time, or again after it was retried by hand.
pub const RUNNING: &str = "RUNNING";
/// It has succeeded.
pub const SUCCESS: &str = "SUCCESS";
/// It has been given up.
pub const FAILURE: &str = "FAILURE";

/// A change of a task's status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The task.
    pub task_id: i64,
    /// The action config that started it.
    pub action_config: String,
    /// [`RUNNING`], [`SUCCESS`] or [`FAILURE`].
    pub status: &'static str,
    /// Why it was given up.
    pub error: Option<String>,
    /// The task's place in its chain.
    pub depth: i16,
}

/// Tells others of changes.
pub trait Reporter: Send + Sync + 'static {
    /// Tells of one, when the caller's transaction commits.
    fn report<'a>(
        &'a self,
        connection: &'a mut PgConnection,
        report: &'a Report,
    ) -> BoxFuture<'a, Result<()>>;
}

/// Tells nobody.
#[derive(Debug, Clone, Copy)]
pub struct Silent;

impl Reporter for Silent {
    fn report<'a>(&'a self, _: &'a mut PgConnection, _: &'a Report) -> BoxFuture<'a, Result<()>> {
        Box::pin(std::future::ready(Ok(())))
    }
}

/// The word for a task's end. One that is cancelled says nothing: nobody waits for it.
pub(crate) fn ended(status: Status) -> Option<&'static str> {
    match status {
        Status::Succeeded => Some(SUCCESS),
        Status::Failed => Some(FAILURE),
        Status::Waiting | Status::Running | Status::Cancelled => None,
    }
}
