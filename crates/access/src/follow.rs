//! Following of files by reading them again.

use std::io;
use std::ops::ControlFlow;
use std::time::Duration;

/// Interval at which followed files are read. A changed content is found however it was written: in
/// place, by a renamed file, or behind a symbolic link.
const READ_INTERVAL: Duration = Duration::from_secs(2);

/// A changed file is taken if it is the same after this time: half of it may have been written.
const SETTLE_TIME: Duration = Duration::from_millis(300);

/// What `read` gives twice in a row, if it differs from what was taken before; else `None`. For the
/// threads of [`follow_files`].
pub(crate) fn read_settled<T>(
    read: impl Fn() -> T,
    is_taken: impl Fn(&T) -> bool,
    is_same: impl Fn(&T, &T) -> bool,
) -> Option<T> {
    let first = read();
    if is_taken(&first) {
        return None;
    }
    std::thread::sleep(SETTLE_TIME);
    let second = read();
    // Else it is being written, and looked at again next time.
    is_same(&first, &second).then_some(second)
}

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
