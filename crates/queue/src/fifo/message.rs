//! Message types and their validation rules.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use super::{FifoError, Result};

/// Maximum size of body and attributes together, in bytes.
pub const MAX_MESSAGE_BYTES: usize = 1 << 20;
/// Maximum number of attributes.
pub const MAX_MESSAGE_ATTRIBUTES: usize = 10;
/// Maximum length of a group or deduplication id, in bytes.
const MAX_ID_BYTES: usize = 128;

/// A message to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewFifoMessage {
    /// Message group: its messages are received one after another.
    pub group: String,
    /// Deduplication id: a message with an id sent within the last five minutes
    /// is not stored again.
    pub deduplication_id: String,
    /// Body text, which must not be empty.
    pub body: String,
    /// Name-value texts beside the body.
    pub attributes: BTreeMap<String, String>,
}

/// The engine's acknowledgement of a send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentMessage {
    /// Message id given by the engine; for a repeated send, the first message's id.
    pub id: String,
    /// Sequence number; grows within a group in delivery order.
    pub sequence: u128,
}

/// Receipt of one receive, invalidated by a later receive of the message. Opaque to callers.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct MessageReceipt(pub String);

/// A received message with its receipt.
#[derive(Debug, Clone)]
pub struct FifoMessage {
    /// Message id given by the engine.
    pub id: String,
    /// Message group given by the sender.
    pub group: String,
    /// Deduplication id given by the sender.
    pub deduplication_id: String,
    /// Sequence number; grows within a group in delivery order.
    pub sequence: u128,
    /// Body text of the message.
    pub body: String,
    /// Name-value texts beside the body.
    pub attributes: BTreeMap<String, String>,
    /// Time of the send.
    pub sent_at: DateTime<Utc>,
    /// Number of receives, including this one.
    pub receive_count: u32,
    /// Time of the first receive by the queue's clock, if the engine reports it.
    pub first_received_at: Option<DateTime<Utc>>,
    /// Receipt of this receive.
    pub receipt: MessageReceipt,
}

/// Columns of messages to send, for `unnest` in SQL.
pub(super) struct MessageColumns<'m> {
    pub(super) groups: Vec<&'m str>,
    pub(super) deduplication_ids: Vec<&'m str>,
    pub(super) bodies: Vec<&'m str>,
    /// JSON texts.
    pub(super) attributes: Vec<String>,
}

impl<'m> MessageColumns<'m> {
    pub(super) fn from_messages(messages: impl Iterator<Item = &'m NewFifoMessage>) -> Self {
        let mut columns = Self {
            groups: Vec::new(),
            deduplication_ids: Vec::new(),
            bodies: Vec::new(),
            attributes: Vec::new(),
        };
        for message in messages {
            columns.groups.push(&message.group);
            columns.deduplication_ids.push(&message.deduplication_id);
            columns.bodies.push(&message.body);
            // A map of strings always serializes to JSON.
            let attributes = serde_json::to_string(&message.attributes).unwrap_or_default();
            columns.attributes.push(attributes);
        }
        columns
    }
}

impl NewFifoMessage {
    /// Checks the rules of Amazon SQS, so that every engine accepts the message.
    pub fn validate(&self) -> Result<()> {
        check_id("group", &self.group)?;
        check_id("deduplication", &self.deduplication_id)?;
        let bytes: usize = self.list_texts().map(String::len).sum();
        let empty = self.body.is_empty() || self.list_texts().any(String::is_empty);
        if bytes > MAX_MESSAGE_BYTES {
            let reason =
                format!("a message of {bytes} bytes: at most {MAX_MESSAGE_BYTES} are allowed");
            return Err(FifoError::TooLarge(reason));
        }
        let reason = if self.attributes.len() > MAX_MESSAGE_ATTRIBUTES {
            format!(
                "{} attributes: at most {MAX_MESSAGE_ATTRIBUTES} are allowed",
                self.attributes.len()
            )
        } else if empty {
            "body, names and values of attributes must not be empty".to_owned()
        } else if !self.list_texts().all(|text| text.chars().all(is_allowed_char)) {
            "a message must have no control characters but tab, line feed and carriage return"
                .to_owned()
        } else {
            return Ok(());
        };
        Err(FifoError::Invalid(reason))
    }

    /// Names and values of the attributes, and the body.
    fn list_texts(&self) -> impl Iterator<Item = &String> {
        self.attributes.iter().flat_map(|(name, value)| [name, value]).chain([&self.body])
    }
}

/// Characters allowed by XML 1.0.
fn is_allowed_char(character: char) -> bool {
    matches!(character, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}

fn check_id(what: &str, id: &str) -> Result<()> {
    if (1..=MAX_ID_BYTES).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(());
    }
    let reason = format!(
        "the {what} id must have 1 to {MAX_ID_BYTES} letters, digits and punctuation of ASCII"
    );
    Err(FifoError::Invalid(reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(group: &str, body: &str, attributes: &[(&str, &str)]) -> NewFifoMessage {
        let attributes =
            attributes.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        NewFifoMessage {
            group: group.to_owned(),
            deduplication_id: "d".to_owned(),
            body: body.to_owned(),
            attributes: attributes.collect(),
        }
    }

    #[test]
    fn what_amazon_takes_is_taken() {
        let (longest, largest) = ("g".repeat(128), "b".repeat(MAX_MESSAGE_BYTES));
        for good in [
            message("g", "b", &[]),
            message(&longest, "tab\tline\n\u{10348}", &[("JobName", "integration")]),
            message("a-b_c.d/e:f", &largest, &[]),
        ] {
            assert!(good.validate().is_ok(), "{:?}", good.group);
        }
    }

    #[test]
    fn what_amazon_refuses_is_refused() {
        let (too_long, too_large) = ("g".repeat(129), "b".repeat(MAX_MESSAGE_BYTES + 1));
        let eleven: Vec<String> = (0..11).map(|n| format!("a{n}")).collect();
        let eleven: Vec<(&str, &str)> = eleven.iter().map(|name| (name.as_str(), "v")).collect();
        for bad in [
            message("", "b", &[]),
            message(&too_long, "b", &[]),
            message("with space", "b", &[]),
            message("ümlaut", "b", &[]),
            message("g", "", &[]),
            message("g", &too_large, &[]),
            message("g", "\0", &[]),
            message("g", "b", &[("a", "")]),
            message("g", "b", &eleven),
        ] {
            let refused = bad.validate();
            let too_large = bad.body.len() > MAX_MESSAGE_BYTES;
            assert_eq!(matches!(refused, Err(FifoError::TooLarge(_))), too_large, "{refused:?}");
            assert!(too_large || matches!(refused, Err(FifoError::Invalid(_))), "{:?}", bad.group);
        }
    }
}
