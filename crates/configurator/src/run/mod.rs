//! Runs of templates: beginning, driving, cancelling, resuming and showing them.
//!
//! - Shape: the control database has the whole state of a run; memory is a cache.
//! - Lock order: every change of an instance locks its row first. A driver's cache is valid as long
//!   as the instance's version is unchanged, so any process may drive any run.
//! - Promise: a block's status, its message and its stored state commit in one transaction.

mod begin;
mod control;
mod described;
mod driver;
mod given_up;
mod late;
#[cfg(test)]
mod linear;
mod load;
mod plan;
mod progress;
mod renamed;
mod status;
mod step;
mod view;
mod write;

pub use begin::{BeginRunOutcome, NewRun, begin_run};
pub use control::{RunControlOutcome, cancel_run, resume_run};
pub use described::is_described_elsewhere;
pub use driver::{RUNS_CHANNEL, RunDriver, forget_old_runs};
pub use load::find_stored_blocks;
pub use plan::{BlockForecast, StoredBlock, forecast_blocks};
pub(crate) use progress::json_text;
pub use status::{BlockStatus, RunStatus};
pub use view::{
    BlockExchange, BlockView, RunFilter, RunView, export_run, list_runs, load_run_transcript,
    load_run_view, wait_for_run,
};
