//! Schedules: bundle files, reconciled into the control database and turned into tasks by the
//! scheduler.

mod check;
mod cron;
mod definition;
mod due;
mod reconciler;
mod scheduler;
mod stored;

pub use check::{SCHEDULE_SCHEMA, check_schedules};
pub use cron::CronExpression;
pub use definition::TaskSchedule;
pub use due::{HANDOVER_WINDOW, due_ticks};
pub use reconciler::{SCHEDULES_RECONCILER, ScheduleReconciler, parse_schedules};
pub use scheduler::TaskScheduler;
pub use stored::{SCHEDULES_CHANNEL, StoredSchedule, read_schedules};
