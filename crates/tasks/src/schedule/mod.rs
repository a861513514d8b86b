//! Schedules: files of the bundle, brought into the control database, turned into tasks by the scheduler.

mod check;
mod cron;
mod definition;
mod due;
mod integration;
mod scheduler;
mod stored;

pub use check::{SCHEDULE_SCHEMA, check_schedules};
pub use cron::Cron;
pub use definition::Scheduled;
pub use due::{HAND_OVER, due};
pub use integration::{Kept, SCHEDULES, Schedules, schedules_of, set};
pub use scheduler::Scheduler;
pub use stored::{CHANNEL, Stored, read};
