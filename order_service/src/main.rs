//! The order service's program.

use std::process::ExitCode;

fn main() -> ExitCode {
    order_service::cli::main()
}
