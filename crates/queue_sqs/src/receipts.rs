//! The receipts that this process received, with their expiry.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Above this many, receipts that expired longer than
/// [`EXPIRED_RECEIPT_RETENTION`] ago are evicted.
const MAX_RECEIPTS: usize = 10_000;
/// Longer than any consumer takes to notice that it has lost its message.
const EXPIRED_RECEIPT_RETENTION: Duration = Duration::from_secs(600);

/// By receipt: its expiry, and whether its message was deleted with it.
#[derive(Default)]
pub(super) struct SqsReceipts(Mutex<HashMap<String, (Instant, bool)>>);

impl SqsReceipts {
    /// Records a receipt that is valid for this long from now.
    pub(super) fn remember(&self, receipt: &str, valid_for: Duration) {
        let now = Instant::now();
        let mut known = self.lock_receipts();
        if known.len() >= MAX_RECEIPTS {
            known.retain(|_, (until, _)| *until + EXPIRED_RECEIPT_RETENTION > now);
        }
        known.insert(receipt.to_owned(), (now + valid_for, false));
    }

    /// Records that the message was deleted with this receipt.
    pub(super) fn mark_used(&self, receipt: &str) {
        if let Some((_, deleted)) = self.lock_receipts().get_mut(receipt) {
            *deleted = true;
        }
    }

    /// Whether the message was deleted with this receipt.
    pub(super) fn is_used(&self, receipt: &str) -> bool {
        self.lock_receipts().get(receipt).is_some_and(|(_, deleted)| *deleted)
    }

    /// Whether the receipt has expired. `false` for a receipt of another
    /// process: the queue decides.
    pub(super) fn has_expired(&self, receipt: &str) -> bool {
        self.lock_receipts().get(receipt).is_some_and(|(until, _)| *until <= Instant::now())
    }

    fn lock_receipts(&self) -> std::sync::MutexGuard<'_, HashMap<String, (Instant, bool)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
