//! The order service's program.

use std::process::ExitCode;

/// Messages of small calls are allocated and freed by the thousand, often on another thread than they came from: the C library's
/// allocator took a fifth of the time of an order (docs/decisions/0007-allocator.md).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    serving::disable_huge_pages();
    order_service::cli::main()
}
