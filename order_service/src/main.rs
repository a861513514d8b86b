//! Binary of the order service: the command line.

mod cli;

use std::process::ExitCode;

/// Small messages are allocated and freed by the thousand, often on different threads: the C
/// library's allocator took a fifth of an order's CPU time (docs/decisions/0007-allocator.md).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    serving::disable_huge_pages();
    cli::main()
}
