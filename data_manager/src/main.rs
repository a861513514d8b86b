//! Binary of the data manager; the code is in the library, so that tests can run it in process.

/// Small messages are allocated and freed by the thousand, often on different threads: the C
/// library's allocator took a third of this program's CPU time in a profile
/// (docs/decisions/0007-allocator.md).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    serving::disable_huge_pages();
    data_manager::commands::main()
}
