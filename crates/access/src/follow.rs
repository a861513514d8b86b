//! Following of files by reading them again.

use std::io;
use std::ops::ControlFlow;
use std::time::Duration;

/// Interval at which followed files are read. A changed content is found however it was written: in
/// place, by a renamed file, or behind a symbolic link.
const READ_INTERVAL: Duration = Duration::from_secs(2);

/// Calls `read` every two seconds until it breaks. A thread of its own: settings are read before
/// there is a runtime, and a network file system may block.
pub fn follow_files(
    thread_name: &str,
    mut read: impl FnMut() -> ControlFlow<()> + Send + 'static,
) -> io::Result<()> {
    let thread = std::thread::Builder::new().name(thread_name.to_owned());
    let run = move || {
        while let ControlFlow::Continue(()) = {
            std::thread::sleep(READ_INTERVAL);
            read()
        } {}
    };
    thread.spawn(run).map(drop)
}
