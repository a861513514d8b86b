//! Entries of an export stream.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use serde::Deserialize;

use crate::ids::SequenceNumber;

/// Permanent identity of an exported event within its shard. Streams are sorted by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExportMark {
    /// Epoch in which the event was exported.
    pub epoch: i64,
    /// Sequence number of the event.
    pub seq: SequenceNumber,
}

impl fmt::Display for ExportMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "number {} of epoch {}", self.seq, self.epoch)
    }
}

/// An exported event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportEntry {
    /// Position in the stream.
    pub mark: ExportMark,
    /// One JSON object without line breaks.
    pub body: Bytes,
}

#[derive(Deserialize)]
struct ExportEntryHead<'a> {
    #[serde(borrow)]
    shard: Cow<'a, str>,
    epoch: i64,
    seq: SequenceNumber,
}

impl ExportEntry {
    /// Parses a body written by `shard`'s exporter; the error describes why it is not one.
    pub fn parse(shard: &str, body: Bytes) -> Result<Self, String> {
        let head: ExportEntryHead<'_> =
            serde_json::from_slice(&body).map_err(|error| describe_parse_error(&error))?;
        if head.shard != shard {
            return Err(format!("an event of shard {}", head.shard));
        }
        let mark = ExportMark { epoch: head.epoch, seq: head.seq };
        Ok(Self { mark, body })
    }
}

/// Reports the byte offset but not serde's "line 1": the entry is one line of a larger file.
fn describe_parse_error(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.split_once(" at line 1 column ") {
        Some((what, _)) => format!("no exported event: {what} at its byte {}", error.column()),
        None => format!("no exported event: {text}"),
    }
}
