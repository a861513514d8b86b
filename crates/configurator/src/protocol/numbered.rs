//! Lenient extraction of the `block_id` from a message body. Integrations must answer a malformed
//! body if a `block_id` can be found in it; the same is applied to their answers.

use serde_json::{Value as Json, json};

use super::{BLOCK_ID_END, BlockFailure};
use crate::ids::BlockId;

/// A body with a readable `block_id`.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockMessageBody {
    /// The `block_id` of the task.
    pub block_id: BlockId,
    /// The parsed body, or why it is invalid.
    pub body: Result<Json, BlockFailure>,
}

/// Parses a body; `None` if no `block_id` can be found in it.
pub fn parse_message_body(text: &str) -> Option<BlockMessageBody> {
    match serde_json::from_str::<Json>(text) {
        Ok(body) => {
            let id_value = body.get("block_id")?;
            if let Some(block_id) = id_value.as_i64().and_then(check_block_id) {
                return Some(BlockMessageBody { block_id, body: Ok(body) });
            }
            let reason =
                format!("must be a whole number written as one, such as 7: it is {id_value}");
            Some(BlockMessageBody {
                block_id: lenient_block_id(id_value)?,
                body: Err(malformed_failure("block_id", &reason)),
            })
        }
        Err(error) => Some(BlockMessageBody {
            block_id: find_block_id(text)?,
            body: Err(malformed_failure("body", &error.to_string())),
        }),
    }
}

/// The id of this number, if it is in the range of ids.
fn check_block_id(number: i64) -> Option<BlockId> {
    Some(BlockId(number)).filter(|id| (BlockId(0)..BLOCK_ID_END).contains(id))
}

fn malformed_failure(field: &str, reason: &str) -> BlockFailure {
    BlockFailure::new(
        "VALIDATION_ERROR",
        json!({"field": field, "reason": store::to_storable_text(reason)}),
    )
}

/// The whole number in a value of another JSON type: `"7"`, `7.0`.
fn lenient_block_id(value: &Json) -> Option<BlockId> {
    match value {
        Json::String(text) => parse_whole_number(text.trim()),
        Json::Number(number) => parse_whole_number(&number.to_string()),
        _ => None,
    }
}

/// Parses a whole number, optionally with a fraction of zeros.
fn parse_whole_number(text: &str) -> Option<BlockId> {
    let (digits, zeros) = text.split_once('.').unwrap_or((text, ""));
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let id = digits.parse().ok().filter(|_| plain).and_then(check_block_id)?;
    zeros.bytes().all(|byte| byte == b'0').then_some(id)
}

/// The `block_id` of the outermost object in text that is not valid JSON, such as text with single
/// quotes or truncated text.
fn find_block_id(text: &str) -> Option<BlockId> {
    let (mut depth, mut rest, mut is_key) = (0_usize, text, false);
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        match c {
            '{' | '[' => depth += 1,
            '}' | ']' => depth = depth.saturating_sub(1),
            '"' | '\'' => {
                let (string, after) = split_quoted(rest, c)?;
                rest = after;
                if depth == 1 && is_key && string == "block_id" {
                    return parse_leading_number(rest.trim_start().strip_prefix(':')?.trim_start());
                }
            }
            _ => {}
        }
        is_key = match c {
            '{' | ',' => true,
            c if c.is_whitespace() => is_key,
            _ => false,
        };
    }
    None
}

/// A string's content, and the text after its closing quote.
fn split_quoted(text: &str, quote: char) -> Option<(&str, &str)> {
    let mut is_escaped = false;
    for (position, c) in text.char_indices() {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            c if c == quote => return Some((&text[..position], &text[position + 1..])),
            _ => {}
        }
    }
    None
}

/// The number at the start of the text. `None` if the text ends with it, as
/// digits may be truncated.
fn parse_leading_number(text: &str) -> Option<BlockId> {
    let quote = text.chars().next().filter(|c| matches!(c, '"' | '\''));
    if let Some(quote) = quote {
        return split_quoted(&text[1..], quote)
            .and_then(|(string, _)| parse_whole_number(string.trim()));
    }
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let ends = text[end..].starts_with(|c: char| matches!(c, ',' | '}' | ']') || c.is_whitespace());
    parse_whole_number(&text[..end]).filter(|_| ends)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_found_wherever_it_can_be_read() {
        let deep = format!(
            "{{\"block_id\": 7, \"state\": {{\"x\": {}1{}}}}}",
            "[".repeat(200),
            "]".repeat(200)
        );
        for (body, reason) in [
            (r#"{"block_id": 7, "state": {"x": NaN}}"#, "expected value at line 1"),
            (r#"{"state": {"x": 1e999}, "block_id": 7}"#, "number out of range"),
            (r#"{"block_id": 7, "state": {"x": "\ud800"}}"#, "hex escape"),
            (&deep, "recursion limit"),
            (r#"{"block_id": 7, "state": {"x"#, "EOF"),
            (r#"{"block_id":7,"#, "EOF"),
            (r#"{'block_id': 7, 'state': {'x': None}}"#, "key must be a string"),
            ("\u{feff}{\"block_id\": 7}", "expected value"),
            (r#"{"block_id": "7", "state": {}}"#, "must be a whole number"),
            (r#"{"block_id": 7.0, "state": {}}"#, "must be a whole number"),
            (r#"{"block_id": 7.00, "state": {"x": Infinity}}"#, "expected value"),
            (
                r#"{"state": {"block_id": 3, "x": NaN}, "a": ["block_id", 4], "block_id": 7}"#,
                "expected value",
            ),
            (r#"{"text": "\"block_id\": 5 ,", "block_id": "7", x}"#, "key must be a string"),
        ] {
            let found = parse_message_body(body).unwrap_or_else(|| panic!("{body}"));
            let failure = found.body.unwrap_err();
            assert_eq!(
                (found.block_id, failure.code.as_str()),
                (BlockId(7), "VALIDATION_ERROR"),
                "{body}"
            );
            let said = failure.args["reason"].as_str().unwrap();
            assert!(said.contains(reason), "{body}: {said}");
        }
    }

    #[test]
    fn nothing_is_taken_for_a_number_that_is_none() {
        for body in [
            "",
            "[]",
            "[1, 2]",
            "{}",
            r#"{"state": {"block_id": 3}}"#,
            r#"{"state": {"block_id": 3, "x": NaN}}"#,
            r#"{"block_id": -1}"#,
            r#"{"block_id": 7.5}"#,
            r#"{"block_id": "none"}"#,
            r#"{"block_id": true}"#,
            r#"{"block_id": 9007199254740992}"#,
            r#"{"block_id": 12"#,
            r#"{"block_id": 7e1, "x": NaN}"#,
            r#"{"block_id": "12"#,
            r#"{"x": "block_id", : 7, NaN}"#,
        ] {
            assert_eq!(parse_message_body(body), None, "{body}");
        }
        assert!(parse_message_body(r#"{"block_id": 7, "state": {}}"#).unwrap().body.is_ok());
    }
}
