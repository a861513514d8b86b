//! Until when the receipts hold that were given out.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// When there are more, those that ran out long ago are forgotten.
const MANY: usize = 10_000;
/// Longer than any consumer takes to find out that its message is somebody else's.
const LONG_AGO: Duration = Duration::from_secs(600);

/// By receipt: until when it holds, and whether its message was deleted by it.
#[derive(Default)]
pub(super) struct Receipts(Mutex<HashMap<String, (Instant, bool)>>);

impl Receipts {
    /// From now on the receipt holds for so long.
    pub(super) fn give(&self, receipt: &str, holds: Duration) {
        let now = Instant::now();
        let mut known = self.known();
        if known.len() >= MANY {
            known.retain(|_, (until, _)| *until + LONG_AGO > now);
        }
        known.insert(receipt.to_owned(), (now + holds, false));
    }

    /// The message was deleted by this receipt.
    pub(super) fn used(&self, receipt: &str) {
        if let Some((_, deleted)) = self.known().get_mut(receipt) {
            *deleted = true;
        }
    }

    /// Whether the message was deleted by this receipt.
    pub(super) fn was_used(&self, receipt: &str) -> bool {
        self.known().get(receipt).is_some_and(|(_, deleted)| *deleted)
    }

    /// Whether it has run out; one that was given out by another process is the queue's to judge.
    pub(super) fn has_expired(&self, receipt: &str) -> bool {
        self.known().get(receipt).is_some_and(|(until, _)| *until <= Instant::now())
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<String, (Instant, bool)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
