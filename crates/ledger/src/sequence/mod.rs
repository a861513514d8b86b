//! Numbers: every event gets a gap-free, monotonic number in its shard, given by one process at a time.
//!
//! A writing transaction leaves one row in `pending_batches`; the sequencer moves what is committed to `batches` with its
//! first number, so an event's number is its batch's first plus its place, and no event row is ever touched again. One
//! numbering transaction follows the other (the row lock of `sequence`), hence: once number N is seen, nothing at or
//! below N ever appears later.

mod feed;
mod sequencer;

pub use feed::{LedgerFeedEvent, read_dropped_seq, read_feed};
pub use sequencer::{SequenceNotifier, Sequencer};
