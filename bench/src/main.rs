//! Benchmarks of the platform: every row of the table in `docs/performance.md`, measured on the release builds of both
//! services as processes of their own, with the limits of the machine measured in the same run.
//!
//! Shape: `suite` knows the rows and runs them; `rows` measure; `platform` starts and stops what is measured; `load`
//! drives it from threads of its own; `limits` are the same work without our part; `figures` and `report` say it.

#![allow(clippy::print_stdout, clippy::print_stderr)] // It shows what it measured itself.

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

/// That of the services, so that the limits are measured with the same means.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // SAFETY: nothing has run yet that could have started a thread.
    #[allow(unsafe_code)]
    unsafe {
        store::remove_libpq_variables();
    }
    cli::main()
}

/// The machine's processor cores.
fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}
