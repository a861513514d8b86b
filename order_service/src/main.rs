//! The order service's program.

use std::process::ExitCode;

/// Messages of small calls are allocated and freed by the thousand, often on another thread than they came from: the C library's
/// allocator took a fifth of the time of an order (docs/decisions/0007-allocator.md).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // The allocator asks for huge pages, of which an idle process keeps a dozen MB that it does not use (also the keeper
    // and PostgreSQL, which inherit this). Refused by an old kernel, it costs just that.
    let _ = nix::sys::prctl::set_thp_disable(true);
    order_service::cli::main()
}
