//! Status reports of action config tasks: each change in the transaction that makes it.

use futures::future::BoxFuture;
use sqlx::PgConnection;
use store::Result;

use crate::{TaskId, TaskStatus};

/// The first attempt has begun, or the first after a manual retry.
pub const STATUS_RUNNING: &str = "RUNNING";
/// The task has succeeded.
pub const STATUS_SUCCESS: &str = "SUCCESS";
/// The task was given up.
pub const STATUS_FAILURE: &str = "FAILURE";

/// A change of a task's status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskStatusReport {
    /// Id of the task.
    pub task_id: TaskId,
    /// Name of the action config that started the task.
    pub action_config: String,
    /// [`STATUS_RUNNING`], [`STATUS_SUCCESS`] or [`STATUS_FAILURE`].
    pub status: &'static str,
    /// Why the task was given up.
    pub error: Option<String>,
    /// Depth in the chain of events and tasks.
    pub depth: i16,
}

/// Receiver of status changes.
pub trait TaskStatusReporter: Send + Sync + 'static {
    /// Reports a change in the caller's transaction.
    fn report<'a>(
        &'a self,
        connection: &'a mut PgConnection,
        report: &'a TaskStatusReport,
    ) -> BoxFuture<'a, Result<()>>;
}

/// Reporter that discards all reports.
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

/// Reported status of an end; `None` for a cancelled task.
pub(crate) fn reported_end_status(status: TaskStatus) -> Option<&'static str> {
    match status {
        TaskStatus::Succeeded => Some(STATUS_SUCCESS),
        TaskStatus::Failed => Some(STATUS_FAILURE),
        TaskStatus::Waiting | TaskStatus::Running | TaskStatus::Cancelled => None,
    }
}
