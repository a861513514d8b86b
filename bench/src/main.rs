//! Benchmarks of the platform: the rows of the table in `docs/performance.md`, measured on
//! release builds of both services as separate processes. The machine's limits are measured
//! in the same run.
//!
//! - Shape: `suite` defines and runs the rows; `rows` measure; `platform` starts and stops the
//!   services; `load` generates load on separate threads; `limits` do the same work without the
//!   platform; `figures` and `report` format the results.

#![allow(clippy::print_stdout, clippy::print_stderr)] // The output is the program's result.

mod cli;
mod figures;
mod limits;
mod load;
mod platform;
mod progress;
mod report;
mod rows;
mod suite;

use std::process::ExitCode;

/// The allocator of the services, so that limits are comparable.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // SAFETY: no thread has been started yet.
    #[allow(unsafe_code)]
    unsafe {
        store::remove_libpq_variables();
    }
    cli::main()
}

/// Number of available CPU cores.
fn available_cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}
