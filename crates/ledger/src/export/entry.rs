//! What a stream consists of.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use serde::Deserialize;

/// Names an exported event of a shard, for ever. Streams are in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExportMark {
    /// The epoch that it was exported in.
    pub epoch: i64,
    /// Its number.
    pub seq: i64,
}

impl fmt::Display for ExportMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "number {} of epoch {}", self.seq, self.epoch)
    }
}

/// An exported event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportEntry {
    /// Which.
    pub mark: ExportMark,
    /// One JSON object on one line, without the line's end.
    pub body: Bytes,
}

#[derive(Deserialize)]
struct ExportEntryHead<'a> {
    #[serde(borrow)]
    shard: Cow<'a, str>,
    epoch: i64,
    seq: i64,
}

impl ExportEntry {
    /// Reads a body that `shard`'s exporter has written; or says why it cannot be one.
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

/// It is one line of many: which byte of it, but not that it is line 1.
fn describe_parse_error(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.split_once(" at line 1 column ") {
        Some((what, _)) => format!("no exported event: {what} at its byte {}", error.column()),
        None => format!("no exported event: {text}"),
    }
}
