//! The data manager's program; everything is in the library beside it, so that tests can start one in process.

fn main() -> std::process::ExitCode {
    data_manager::commands::main()
}
