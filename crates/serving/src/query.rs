//! Query strings, decoded strictly: invalid UTF-8 is rejected, never replaced, because a parameter
//! may be a key.

use axum::extract::FromRequestParts;
use http::request::Parts;

use crate::error::ApiError;

/// Extractor: query parameters in order. Status 400 if a name or value is not UTF-8 or has a `%`
/// without two hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecodedQuery<T>(pub T);

impl<S: Send + Sync> FromRequestParts<S> for DecodedQuery<Vec<(String, String)>> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        parse_query(parts.uri.query().unwrap_or_default()).map(Self)
    }
}

/// Extractor for routes without parameters: status 400 if there are any. A misplaced guard, such as
/// `lock_id`, must not be ignored.
#[derive(Debug, Clone, Copy)]
pub struct NoQueryParameters;

impl<S: Send + Sync> FromRequestParts<S> for NoQueryParameters {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        match parse_query(parts.uri.query().unwrap_or_default())?.into_iter().next() {
            None => Ok(Self),
            Some((name, _)) => Err(ApiError::invalid_field(
                name,
                "unknown parameter; this call takes none in its address",
            )),
        }
    }
}

/// Maximum characters of a parameter's name in an error.
const MAX_NAME_CHARS: usize = 80;

/// Error about a parameter that the call does not take.
pub fn unknown_parameter_error(name: &str, allowed: &[&str]) -> ApiError {
    let verb = if allowed.len() == 1 { "is" } else { "are" };
    ApiError::invalid_field(
        name.chars().take(MAX_NAME_CHARS).collect::<String>(),
        format!("unknown parameter; allowed {verb} {}", allowed.join(", ")),
    )
}

/// Parses the parameter `limit`, the length of a page.
pub fn parse_limit(value: &str, max: i64) -> Result<i64, ApiError> {
    let limit = value.parse().ok().filter(|limit| (1..=max).contains(limit));
    limit.ok_or_else(|| {
        ApiError::invalid_field("limit", format!("must be a whole number from 1 to {max}"))
    })
}

fn parse_query(query: &str) -> Result<Vec<(String, String)>, ApiError> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs.map(parse_pair).collect()
}

fn parse_pair(pair: &str) -> Result<(String, String), ApiError> {
    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
    let name = decode_form_value(name).ok_or_else(|| encoding_error("query"))?;
    let value = decode_form_value(value).ok_or_else(|| encoding_error(&name))?;
    Ok((name, value))
}

fn encoding_error(field: &str) -> ApiError {
    ApiError::invalid_field(
        field,
        "must be UTF-8, percent-encoded: two hexadecimal digits after each %",
    )
}

/// Decodes form encoding; `None` for broken escapes or invalid UTF-8.
fn decode_form_value(encoded: &str) -> Option<String> {
    let mut decoded = Vec::with_capacity(encoded.len());
    let mut bytes = encoded.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => hex_digit(bytes.next()?)? << 4 | hex_digit(bytes.next()?)?,
            byte => byte,
        });
    }
    String::from_utf8(decoded).ok()
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_decoded_as_forms_are() {
        let pairs = parse_query("a=b+c%2B%C3%A9&&a=%26%3d&flag&=x&v=a=b").unwrap();
        let expected = [("a", "b c+é"), ("a", "&="), ("flag", ""), ("", "x"), ("v", "a=b")];
        assert_eq!(pairs, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert!(parse_query("").unwrap().is_empty());
    }

    #[test]
    fn what_is_not_utf8_is_refused_and_never_replaced() {
        for bad in [
            "client=%FFx",
            "client=J%FC",
            "client=%C3",
            "client=%ED%A0%80",
            "client=100%",
            "client=%zz",
        ] {
            let error = parse_query(bad).unwrap_err();
            assert_eq!(error.fields[0].0, "client", "{bad}");
        }
        assert_eq!(parse_query("%FF=1").unwrap_err().fields[0].0, "query");
    }
}
