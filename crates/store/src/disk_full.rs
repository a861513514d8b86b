//! Disk-full state of the databases, derived from failed writes.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::Error;

/// Time for which a disk counts as full after a failed write; a retry meanwhile finds out whether
/// there is room again.
const DISK_FULL_TIMEOUT: Duration = Duration::from_secs(20);

static DISK_FULL_AT: Mutex<Option<Instant>> = Mutex::new(None);

/// Whether a database reported a full disk during the last 20 seconds.
pub fn is_disk_full() -> bool {
    let at = *DISK_FULL_AT.lock().unwrap_or_else(PoisonError::into_inner);
    at.is_some_and(|at| at.elapsed() < DISK_FULL_TIMEOUT)
}

/// Records a disk-full error.
pub(crate) fn note_disk_error(error: &Error) {
    if error.is_disk_full() {
        *DISK_FULL_AT.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }
}
