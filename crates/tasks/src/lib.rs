//! Background tasks: work outside the order path, distributed by a FIFO queue and a job queue.
//!
//! A task is a row. A message, sent in the same transaction, brings it to a worker (role `tasks`).
//! The worker begins an attempt, which gets a number, runs the handler for the task's type while
//! the message stays invisible to other workers, and ends the attempt. Only the latest attempt can
//! end the task. The scheduler (a duty: one process active, others on standby) enqueues a task for
//! each tick of each schedule, in the transaction that marks the tick as done.
//!
//! Tasks that action configs start are rows of the same table. Jobs of the Postgres queue
//! [`ACTION_TASK_QUEUE`], enqueued in their event's transaction, bring them to the same workers.
//! Each change of their status is reported ([`TaskStatusReporter`]).

mod action;
mod attempt;
mod control;
mod failures;
mod forget;
mod handler;
pub mod http;
mod ids;
mod refusal;
mod report;
mod running;
pub mod schedule;
mod task;
mod task_type;
mod worker;

pub use action::{ACTION_TASK_QUEUE, ActionTask, start_action_tasks_in_tx};
pub use control::{CANCELLED_CHANNEL, TaskControlOutcome};
pub use failures::{TaskFailureRow, recent_task_failures};
pub use forget::{ForgetTasksOutcome, forget_old_tasks};
pub use handler::{TaskAttempt, TaskAttemptError, TaskHandler, TaskHandlers};
pub use ids::{EventId, TaskId};
pub use report::{
    STATUS_FAILURE, STATUS_RUNNING, STATUS_SUCCESS, SilentStatusReporter, TaskStatusReport,
    TaskStatusReporter,
};
pub use running::RunningAttempts;
pub use task::{
    NewTask, ScheduleTick, TaskEnqueueOutcome, TaskFilter, TaskRow, TaskStatus, TaskStore,
    parse_json_text,
};
pub use task_type::TaskType;
pub use worker::{
    ActionWorker, ActionWorkerOptions, TaskExecutor, TaskWorkerOptions, ensure_task_queues,
    run_task_worker,
};

/// FIFO queue that brings tasks to workers.
pub const TASK_QUEUE: &str = "tasks.fifo";
/// Dead letters of tasks that were given up, each with the reason.
pub const TASK_DEAD_LETTER_QUEUE: &str = "tasks-dead.fifo";
