//! Panic hook: logs and counts every panic; exits the process unless the panic is contained.

use std::backtrace::Backtrace;
use std::panic::PanicHookInfo;
use std::thread;
use std::time::Duration;

use super::flush_logs;

/// Exit code of a process that ends because of an internal error.
pub const PANIC_EXIT_CODE: i32 = 70;
/// The logging code itself may have panicked: exit after this time anyway.
const PANIC_LOG_TIMEOUT: Duration = Duration::from_secs(3);

/// Installs the hook for all threads.
pub(super) fn install_panic_hook() {
    std::panic::set_hook(Box::new(|panic| {
        if !store::panics::is_panic_contained() {
            let _ = thread::Builder::new().spawn(|| {
                thread::sleep(PANIC_LOG_TIMEOUT);
                std::process::exit(PANIC_EXIT_CODE);
            });
        }
        log_panic(panic);
        if !store::panics::is_panic_contained() {
            flush_logs();
            std::process::exit(PANIC_EXIT_CODE);
        }
    }));
}

fn log_panic(panic: &PanicHookInfo<'_>) {
    metrics::counter!("panics_total").increment(1);
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    let reason = panic.payload_as_str().unwrap_or("no message");
    let (thread, backtrace) = (thread::current(), Backtrace::capture());
    let thread = thread.name().unwrap_or_default();
    if store::panics::is_panic_contained() {
        tracing::error!(code = "LOGIC_ERROR", place, thread, %backtrace, "panicked: {reason}");
    } else {
        tracing::error!(
            code = "LOGIC_ERROR", place, thread, %backtrace,
            "panicked where nobody would notice, so the process ends: {reason}"
        );
    }
}
