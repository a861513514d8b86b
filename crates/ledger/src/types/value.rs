//! Attribute types and values: validation and the canonical text of a value.

use std::fmt;

use chrono::NaiveDate;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use uuid::Uuid;

/// Maximum length of a string value, in bytes.
pub const MAX_STRING_BYTES: usize = 256;

/// Value type of an attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AttributeType {
    /// A 64-bit signed integer.
    Int,
    /// At most [`MAX_STRING_BYTES`] bytes of UTF-8 without NUL.
    String,
    /// A calendar date such as `2024-02-29`.
    Date,
    /// `true` or `false`.
    Bool,
    /// A hyphenated UUID of 36 characters.
    Uuid,
}

impl AttributeType {
    /// Allowed values, worded for error messages.
    pub fn allowed_values(self) -> &'static str {
        match self {
            AttributeType::Int => "a whole number of 64 bits",
            AttributeType::String => "a string of at most 256 bytes without NUL",
            AttributeType::Date => "a date such as 2024-02-29",
            AttributeType::Bool => "true or false",
            AttributeType::Uuid => "a UUID such as 123e4567-e89b-12d3-a456-426614174000",
        }
    }

    /// Canonical text of a JSON value of this type; `None` if the value is invalid. `token` is the
    /// value's raw JSON text.
    pub fn canonical_json(self, token: &str) -> Option<String> {
        match self {
            AttributeType::Int => {
                let digits = token.strip_prefix('-').unwrap_or(token);
                digits
                    .bytes()
                    .all(|b| b.is_ascii_digit())
                    .then(|| self.canonical_text(token))
                    .flatten()
            }
            AttributeType::Bool => self.canonical_text(token),
            AttributeType::String | AttributeType::Date | AttributeType::Uuid => {
                let text: String = serde_json::from_str(token).ok()?;
                self.canonical_text(&text)
            }
        }
    }

    /// Canonical text of a value given as bare text (query string or command line); `None` if it is
    /// invalid.
    pub fn canonical_text(self, text: &str) -> Option<String> {
        match self {
            AttributeType::Int => text.parse::<i64>().ok().map(|number| number.to_string()),
            AttributeType::String => {
                (text.len() <= MAX_STRING_BYTES && !text.contains('\0')).then(|| text.to_owned())
            }
            AttributeType::Date => {
                let date: NaiveDate = text.parse().ok()?;
                // Only the ISO spelling is accepted: reading returns the written text.
                (date.to_string() == text).then(|| text.to_owned())
            }
            AttributeType::Bool => matches!(text, "true" | "false").then(|| text.to_owned()),
            AttributeType::Uuid => {
                text.parse::<Uuid>().ok().filter(|_| text.len() == 36).map(|uuid| uuid.to_string())
            }
        }
    }

    /// JSON value of a canonical text.
    pub fn to_json(self, canonical: &str) -> Json {
        match self {
            AttributeType::Int => canonical.parse::<i64>().map_or(Json::Null, Json::from),
            AttributeType::Bool => Json::Bool(canonical == "true"),
            AttributeType::String | AttributeType::Date | AttributeType::Uuid => canonical.into(),
        }
    }
}

impl fmt::Display for AttributeType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AttributeType::Int => "int",
            AttributeType::String => "string",
            AttributeType::Date => "date",
            AttributeType::Bool => "bool",
            AttributeType::Uuid => "uuid",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_has_one_canonical_text() {
        let good = [
            (AttributeType::Int, "-0", "0"),
            (AttributeType::Int, "9223372036854775807", "9223372036854775807"),
            (AttributeType::String, r#""a\u0041""#, "aA"),
            (AttributeType::Date, r#""2024-02-29""#, "2024-02-29"),
            (AttributeType::Bool, "true", "true"),
            (
                AttributeType::Uuid,
                r#""123E4567-e89b-12d3-a456-426614174000""#,
                "123e4567-e89b-12d3-a456-426614174000",
            ),
        ];
        for (kind, token, canonical) in good {
            assert_eq!(kind.canonical_json(token).as_deref(), Some(canonical), "{kind} {token}");
        }
    }

    #[test]
    fn what_is_of_another_type_is_refused() {
        let long = format!("\"{}\"", "x".repeat(257));
        let bad = [
            (AttributeType::Int, "1.0"),
            (AttributeType::Int, "1e3"),
            (AttributeType::Int, "\"1\""),
            (AttributeType::Int, "9223372036854775808"),
            (AttributeType::String, "1"),
            (AttributeType::String, &long),
            (AttributeType::String, r#""a\u0000""#),
            (AttributeType::Date, "\"2023-02-29\""),
            (AttributeType::Date, "\"2023-2-9\""),
            (AttributeType::Date, "\"2024-01-01T00:00:00Z\""),
            (AttributeType::Bool, "\"true\""),
            (AttributeType::Bool, "1"),
            (AttributeType::Uuid, "\"123e4567e89b12d3a456426614174000\""),
        ];
        for (kind, token) in bad {
            assert_eq!(kind.canonical_json(token), None, "{kind} {token}");
        }
    }
}
