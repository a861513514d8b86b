//! What tasks of action configs report of themselves: each change of status, in its transaction.

use futures::future::BoxFuture;
use sqlx::PgConnection;
use store::Result;

use crate::TaskStatus;

/// The task has been begun for the first time, or again after it was retried by hand.
pub const STATUS_RUNNING: &str = "RUNNING";
/// It has succeeded.
pub const STATUS_SUCCESS: &str = "SUCCESS";
/// It has been given up.
pub const STATUS_FAILURE: &str = "FAILURE";

/// A change of a task's status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskStatusReport {
    /// The task.
    pub task_id: i64,
    /// The action config that started it.
    pub action_config: String,
    /// [`STATUS_RUNNING`], [`STATUS_SUCCESS`] or [`STATUS_FAILURE`].
    pub status: &'static str,
    /// Why it was given up.
    pub error: Option<String>,
    /// The task's place in its chain.
    pub depth: i16,
}

/// Tells others of changes.
pub trait TaskStatusReporter: Send + Sync + 'static {
    /// Tells of one, when the caller's transaction commits.
    fn report<'a>(
        &'a self,
        connection: &'a mut PgConnection,
        report: &'a TaskStatusReport,
    ) -> BoxFuture<'a, Result<()>>;
}

/// Tells nobody.
#[derive(Debug, Clone, Copy)]
pub struct SilentStatusReporter;

impl TaskStatusReporter for SilentStatusReporter {
    fn report<'a>(
        &'a self,
        _: &'a mut PgConnection,
        _: &'a TaskStatusReport,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(std::future::ready(Ok(())))
    }
}

/// The word for a task's end. One that is cancelled says nothing: nobody waits for it.
pub(crate) fn reported_end_status(status: TaskStatus) -> Option<&'static str> {
    match status {
        TaskStatus::Succeeded => Some(STATUS_SUCCESS),
        TaskStatus::Failed => Some(STATUS_FAILURE),
        TaskStatus::Waiting | TaskStatus::Running | TaskStatus::Cancelled => None,
    }
}
