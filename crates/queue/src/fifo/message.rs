//! What a message is, and what it may be.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use super::{FifoError, Result};

/// Largest message: body and attributes, in bytes.
pub const MAX_MESSAGE_BYTES: usize = 1 << 20;
/// Most attributes of a message.
pub const MAX_MESSAGE_ATTRIBUTES: usize = 10;
/// Longest group and deduplication id.
const MAX_ID_BYTES: usize = 128;

/// A message to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewFifoMessage {
    /// Messages of a group are received one after another.
    pub group: String,
    /// Sent again within five minutes, it is the same message.
    pub deduplication_id: String,
    /// Text.
    pub body: String,
    /// Texts beside the body, by name.
    pub attributes: BTreeMap<String, String>,
}

/// What became of a message that was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentMessage {
    /// The engine's name for it; of a repeated one, the first one's.
    pub id: String,
    /// Grows within a group, in the order of delivery.
    pub sequence: u128,
}

/// Proves that a message was received, and not by others since. What it says is the engine's business.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct MessageReceipt(pub String);

/// A received message.
#[derive(Debug, Clone)]
pub struct FifoMessage {
    /// The engine's name for it.
    pub id: String,
    /// Its group.
    pub group: String,
    /// What it was sent with.
    pub deduplication_id: String,
    /// Grows within a group, in the order of delivery.
    pub sequence: u128,
    /// Text.
    pub body: String,
    /// Texts beside the body.
    pub attributes: BTreeMap<String, String>,
    /// When it was sent.
    pub sent_at: DateTime<Utc>,
    /// How often it has been received, this time included.
    pub receive_count: u32,
    /// When it was received first, by the queue's clock, if the engine says so.
    pub first_received_at: Option<DateTime<Utc>>,
    /// This receive's.
    pub receipt: MessageReceipt,
}

impl NewFifoMessage {
    /// Refuses what an engine might refuse: the rules of Amazon SQS.
    pub fn validate(&self) -> Result<()> {
        check_id("group", &self.group)?;
        check_id("deduplication", &self.deduplication_id)?;
        let texts =
            || self.attributes.iter().flat_map(|(name, value)| [name, value]).chain([&self.body]);
        let bytes: usize = texts().map(String::len).sum();
        let empty = self.body.is_empty() || texts().any(String::is_empty);
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
        } else if !texts().all(|text| text.chars().all(is_allowed_char)) {
            "a message must have no control characters but tab, line feed and carriage return"
                .to_owned()
        } else {
            return Ok(());
        };
        Err(FifoError::Invalid(reason))
    }
}

/// Characters of XML 1.0.
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
