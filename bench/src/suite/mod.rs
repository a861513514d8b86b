//! The suite: definition and execution of the rows.

mod effort;
mod outcome;
mod rows;
mod run;
mod session;

pub use effort::MeasurementEffort;
pub use outcome::RowOutcome;
pub use rows::{BENCH_ROWS, BenchRow, RowFrequency, select_rows};
pub use run::run_rows;
pub use session::BenchSession;
