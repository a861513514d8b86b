//! Runs: what was asked for, what has come of it, and who carries it on.
//!
//! All there is to know of a run is in the control database. Whoever changes anything of an instance locks its row, so
//! that any process may carry any run on: a driver remembers an instance only as long as its version is as it was.
//! A block's state, its message and what is stored commit together.

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
pub use status::{BlockStatus, RunStatus};
pub use view::{
    BlockExchange, BlockView, RunFilter, RunView, export_run, list_runs, load_run_transcript,
    load_run_view, wait_for_run,
};
