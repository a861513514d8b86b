//! How many files a process may have open: connections are files.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// More files than this are of no use, and costly to programs that go through all of them.
const MAX_OPEN_FILES: u64 = 65_536;

/// Raises this process's soft limit of open files to the hard one, and says how many there are now.
pub fn raise_file_limit() -> u64 {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return 1024 };
    let new_limit = hard.min(MAX_OPEN_FILES);
    if soft >= new_limit {
        return soft;
    }
    match setrlimit(Resource::RLIMIT_NOFILE, new_limit, hard) {
        Ok(()) => new_limit,
        Err(error) => {
            tracing::warn!(%error, soft, "the limit of open files stays as it is");
            soft
        }
    }
}
