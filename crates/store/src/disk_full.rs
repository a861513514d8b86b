//! Whether some database's disk is full, as far as failed writes have told.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::Error;

/// So long after a write found a disk full it is taken for full: who tries again meanwhile notices that there is room.
const DISK_FULL_TIMEOUT: Duration = Duration::from_secs(20);

static DISK_FULL_AT: Mutex<Option<Instant>> = Mutex::new(None);

/// Whether some database said a moment ago that its disk is full.
pub fn is_disk_full() -> bool {
    let at = *DISK_FULL_AT.lock().unwrap_or_else(PoisonError::into_inner);
    at.is_some_and(|at| at.elapsed() < DISK_FULL_TIMEOUT)
}

/// Takes note of what an error says about the disk.
pub(crate) fn note_disk_error(error: &Error) {
    if error.is_disk_full() {
        *DISK_FULL_AT.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }
}
