//! Sequence numbers: gap-free and monotonic per shard, assigned by one process at a time.
//!
//! - Shape: a writing transaction leaves one row in `pending_batches`; the sequencer moves
//!   committed rows to `batches` with their first number. An event's number is its batch's first
//!   number plus its place in the batch; event rows are never updated.
//! - Lock order: numbering transactions are serialized by the row lock of `sequence`.
//! - Promise: once number N is visible, no number at or below N appears later.

mod feed;
mod sequencer;

pub use feed::{LedgerFeedEvent, read_dropped_seq, read_feed};
pub use sequencer::{SequenceNotifier, Sequencer};
