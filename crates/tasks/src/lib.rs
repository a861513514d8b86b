//! Background tasks: what runs beside the fast loops, through a FIFO queue.
//!
//! A task is a row; a message, sent in the same transaction, brings it to a worker (role `tasks`). The worker begins an
//! attempt (which numbers it), runs the handler registered for the task's type while it keeps the message from others,
//! and ends the attempt: only the latest one can. The scheduler (a duty: one works, others stand by) enqueues a task for
//! each tick of each schedule, in the transaction that notes the tick as done.
//!
//! Tasks that action configs start are rows of the same table; jobs of the Postgres queue [`ACTIONS`], enqueued in the
//! transaction of their event, bring them to the same workers. They report each change of their status ([`Reporter`]).

mod action;
mod attempt;
mod control;
pub mod event_id;
mod failures;
mod forget;
mod handler;
pub mod http;
mod refused;
mod report;
mod running;
pub mod schedule;
mod task;
mod worker;

pub use action::{ACTIONS, ActionTask, start_in_tx};
pub use control::{CANCELLED_CHANNEL, Done};
pub use failures::{Failure, recent_failures};
pub use forget::{Forgotten, forget};
pub use handler::{Attempt, Handler, Handlers, TaskError, TaskType};
pub use report::{FAILURE, RUNNING, Report, Reporter, SUCCESS, Silent};
pub use running::Running;
pub use task::{Enqueued, Filter, NewTask, Status, Task, Tasks, Tick};
pub use worker::{ActionTerms, ActionWorker, Desk, WorkerTerms, ensure_queues, work};

/// The queue that brings tasks to workers.
pub const QUEUE: &str = "tasks.fifo";
/// The messages of tasks that were given up, each with the reason.
pub const DEAD_LETTERS: &str = "tasks-dead.fifo";
