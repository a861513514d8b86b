//! How many files a process may have open: connections are files.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// More files than this are of no use, and costly to programs that go through all of them.
const MAX_FILES: u64 = 65_536;

/// Raises this process's soft limit of open files to the hard one, and says how many there are now.
pub fn raise_file_limit() -> u64 {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return 1024 };
    let wanted = hard.min(MAX_FILES);
    if soft >= wanted {
        return soft;
    }
    match setrlimit(Resource::RLIMIT_NOFILE, wanted, hard) {
        Ok(()) => wanted,
        Err(error) => {
            tracing::warn!(%error, soft, "the limit of open files stays as it is");
            soft
        }
    }
}
