//! The data manager's program; everything is in the library beside it, so that tests can start one in process.

/// Messages of small calls are allocated and freed by the thousand, often on another thread than they came from: the C library's
/// allocator took a fifth of the time of an order (docs/decisions/0007-allocator.md).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    serving::disable_huge_pages();
    data_manager::commands::main()
}
