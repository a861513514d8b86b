//! File locks (`flock`) between the processes of a data directory; the kernel drops them
//! when a process ends.

use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

use super::EmbeddedError;
use crate::data_dir::{file_error, own_file_options};

fn open_lock_file(path: &Path) -> Result<File, EmbeddedError> {
    let opened = own_file_options().create(true).truncate(false).read(true).write(true).open(path);
    Ok(opened.map_err(file_error(path))?)
}

/// Takes the shared lock; waits for an exclusive holder until `deadline`.
pub(super) fn lock_shared(path: &Path, deadline: Instant) -> Result<File, EmbeddedError> {
    let file = open_lock_file(path)?;
    while let Err(error) = file.try_lock_shared() {
        let std::fs::TryLockError::WouldBlock = error else {
            return Err(file_error(path)(error.into()).into());
        };
        if Instant::now() > deadline {
            return Err(file_error(path)(std::io::ErrorKind::TimedOut.into()).into());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(file)
}

/// Takes the exclusive lock, or returns `None` if it is held.
pub(super) fn try_lock_exclusive(path: &Path) -> Result<Option<File>, EmbeddedError> {
    let file = open_lock_file(path)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(std::fs::TryLockError::WouldBlock) => Ok(None),
        Err(error) => Err(file_error(path)(error.into()).into()),
    }
}

/// Takes the exclusive lock; waits without a timeout.
pub(super) fn lock_exclusive(path: &Path) -> Result<File, EmbeddedError> {
    let file = open_lock_file(path)?;
    file.lock().map_err(file_error(path))?;
    Ok(file)
}

/// Whether the lock has no exclusive holder.
pub(super) fn is_unlocked(path: &Path) -> Result<bool, EmbeddedError> {
    match open_lock_file(path)?.try_lock_shared() {
        Ok(()) => Ok(true),
        Err(std::fs::TryLockError::WouldBlock) => Ok(false),
        Err(error) => Err(file_error(path)(error.into()).into()),
    }
}

/// Waits until the lock has no exclusive holder.
pub(super) fn wait_until_unlocked(path: &Path) -> Result<(), EmbeddedError> {
    Ok(open_lock_file(path)?.lock_shared().map_err(file_error(path))?)
}
