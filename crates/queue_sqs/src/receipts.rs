//! Until when the receipts hold that were given out.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// When there are more, those that ran out long ago are forgotten.
const MAX_RECEIPTS: usize = 10_000;
/// Longer than any consumer takes to find out that its message is somebody else's.
const EXPIRED_RECEIPT_RETENTION: Duration = Duration::from_secs(600);

/// By receipt: until when it holds, and whether its message was deleted by it.
#[derive(Default)]
pub(super) struct SqsReceipts(Mutex<HashMap<String, (Instant, bool)>>);

impl SqsReceipts {
    /// From now on the receipt holds for so long.
    pub(super) fn remember(&self, receipt: &str, valid_for: Duration) {
        let now = Instant::now();
        let mut known = self.lock_receipts();
        if known.len() >= MAX_RECEIPTS {
            known.retain(|_, (until, _)| *until + EXPIRED_RECEIPT_RETENTION > now);
        }
        known.insert(receipt.to_owned(), (now + valid_for, false));
    }

    /// The message was deleted by this receipt.
    pub(super) fn mark_used(&self, receipt: &str) {
        if let Some((_, deleted)) = self.lock_receipts().get_mut(receipt) {
            *deleted = true;
        }
    }

    /// Whether the message was deleted by this receipt.
    pub(super) fn is_used(&self, receipt: &str) -> bool {
        self.lock_receipts().get(receipt).is_some_and(|(_, deleted)| *deleted)
    }

    /// Whether it has run out; one that was given out by another process is the queue's to judge.
    pub(super) fn has_expired(&self, receipt: &str) -> bool {
        self.lock_receipts().get(receipt).is_some_and(|(until, _)| *until <= Instant::now())
    }

    fn lock_receipts(&self) -> std::sync::MutexGuard<'_, HashMap<String, (Instant, bool)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
