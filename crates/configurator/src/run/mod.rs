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

pub use begin::{Begun, NewRun, begin};
pub use control::{Control, cancel, resume};
pub use described::described_elsewhere;
pub use driver::{Driver, RUNS_CHANNEL, forget};
pub use load::stored_of;
pub use plan::{Forecast, Stored, forecast};
pub use status::{BlockStatus, RunStatus};
pub use view::{BlockView, Exchange, Filter, RunView, export, list, show, transcript, wait};
