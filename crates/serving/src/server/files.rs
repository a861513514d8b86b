//! Open file limit of the process, which bounds the number of connections.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// More file descriptors are not needed, and slow down programs that iterate over all of them.
const MAX_OPEN_FILES: u64 = 65_536;

/// Raises the soft limit of open files to the hard limit, at most 65,536;
/// returns the resulting limit.
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
