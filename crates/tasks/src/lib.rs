//! Background tasks: what runs beside the fast loops, through a FIFO queue.
//!
//! A task is a row; a message, sent in the same transaction, brings it to a worker (role `tasks`). The worker begins an
//! attempt (which numbers it), runs the handler registered for the task's type while it keeps the message from others,
//! and ends the attempt: only the latest one can. The scheduler (a duty: one works, others stand by) enqueues a task for
//! each tick of each schedule, in the transaction that notes the tick as done.
//!
//! Tasks that action configs start are rows of the same table; jobs of the Postgres queue [`ACTION_TASK_QUEUE`], enqueued in the
//! transaction of their event, bring them to the same workers. They report each change of their status ([`TaskStatusReporter`]).

mod action;
mod attempt;
mod control;
pub mod event_id;
mod failures;
mod forget;
mod handler;
pub mod http;
mod refusal;
mod report;
mod running;
pub mod schedule;
mod task;
mod worker;

pub use action::{ACTION_TASK_QUEUE, ActionTask, start_action_tasks_in_tx};
pub use control::{CANCELLED_CHANNEL, TaskControlOutcome};
pub use failures::{TaskFailureRow, recent_task_failures};
pub use forget::{ForgetTasksOutcome, forget_old_tasks};
pub use handler::{TaskAttempt, TaskAttemptError, TaskHandler, TaskHandlers, TaskType};
pub use report::{
    STATUS_FAILURE, STATUS_RUNNING, STATUS_SUCCESS, SilentStatusReporter, TaskStatusReport,
    TaskStatusReporter,
};
pub use running::RunningAttempts;
pub use task::{
    NewTask, ScheduleTick, TaskEnqueueOutcome, TaskFilter, TaskRow, TaskStatus, TaskStore,
};
pub use worker::{
    ActionWorker, ActionWorkerOptions, TaskExecutor, TaskWorkerOptions, ensure_task_queues,
    run_task_worker,
};

/// The queue that brings tasks to workers.
pub const TASK_QUEUE: &str = "tasks.fifo";
/// The messages of tasks that were given up, each with the reason.
pub const TASK_DEAD_LETTER_QUEUE: &str = "tasks-dead.fifo";
