//! URL rendering: a value is escaped for its position, so that it stays one URL component.
//!
//! Unescaped are a value at the very beginning (a URL or its prefix), and results of the filters
//! `urlencode` and `safe`. During rendering each value is enclosed in two NULs, which neither
//! config text nor params may contain.

use minijinja::value::ValueKind;
use minijinja::{Error, ErrorKind, Output, State, Value as Term};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// Encloses each value. The tag after the first mark tells escaped from plain values.
const VALUE_MARK: char = '\0';
const ESCAPED_TAG: char = 's';
const PLAIN_TAG: char = 'p';

/// Characters not escaped in a path or query component.
const URL_PART_SET: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// Characters not escaped in a host: also port and IPv6 brackets; non-ASCII letters are kept.
const URL_HOST_SET: &AsciiSet = &URL_PART_SET.remove(b':').remove(b'[').remove(b']');
/// Characters not escaped by the filter `urlencode`, as in Jinja.
const URLENCODE_SET: &AsciiSet = &URL_PART_SET.remove(b'/');

/// Characters that end the host, a path segment or the path.
const PART_DELIMITERS: [char; 4] = ['/', '?', '#', '\\'];

/// Position in a URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum UrlPosition {
    Beginning,
    Host,
    Path,
    /// The query and everything after it.
    Query,
}

/// Formatter that writes a value with its marks.
pub(super) fn write_marked_value(
    output: &mut Output<'_>,
    _: &mut State<'_, '_>,
    value: &Term,
) -> Result<(), Error> {
    if value.is_undefined() {
        return Err(Error::from(ErrorKind::UndefinedError));
    }
    let kind = if value.is_safe() { ESCAPED_TAG } else { PLAIN_TAG };
    let text = value_text(value)?.replace(VALUE_MARK, "%00");
    write!(output, "{VALUE_MARK}{kind}{text}{VALUE_MARK}")
        .map_err(|_| Error::new(ErrorKind::WriteFailure, "too long"))
}

fn value_text(value: &Term) -> Result<String, Error> {
    match value.kind() {
        ValueKind::Map | ValueKind::Seq | ValueKind::Iterable => {
            let message = "a list or object is no part of a URL (name a member, or use the filter urlencode or tojson)";
            Err(Error::new(ErrorKind::InvalidOperation, message))
        }
        _ => Ok(value.to_string()),
    }
}

/// Filter `urlencode`: percent-encodes a value, or an object's pairs as a query string.
pub(super) fn urlencode_filter(value: &Term) -> Result<Term, Error> {
    if value.kind() != ValueKind::Map {
        return Ok(Term::from_safe_string(
            utf8_percent_encode(&value_text(value)?, URLENCODE_SET).to_string(),
        ));
    }
    let mut pairs = Vec::new();
    for key in value.try_iter()? {
        let member = value.get_item(&key)?;
        if !member.is_none() && !member.is_undefined() {
            let (key, member) = (value_text(&key)?, value_text(&member)?);
            let key = utf8_percent_encode(&key, URL_PART_SET);
            let member = utf8_percent_encode(&member, URL_PART_SET);
            pairs.push(format!("{key}={member}"));
        }
    }
    Ok(Term::from_safe_string(pairs.join("&")))
}

/// Filter `safe`: marks a value as escaped.
pub(super) fn safe_filter(value: &Term) -> Term {
    Term::from_safe_string(value.to_string())
}

/// Resolves the marks to the final URL, or says why it is invalid.
pub(super) fn finish_url(rendered: &str) -> Result<String, String> {
    let mut url = String::with_capacity(rendered.len());
    // Ranges of path values in `url`.
    let mut values = Vec::new();
    for (n, part) in rendered.split(VALUE_MARK).enumerate() {
        if n % 2 == 0 {
            url.push_str(part);
            continue;
        }
        let (begin, place) = (url.len(), url_position(&url));
        match (part.strip_prefix(PLAIN_TAG), place) {
            (None, _) => url.push_str(part.strip_prefix(ESCAPED_TAG).unwrap_or(part)),
            (Some(value), UrlPosition::Beginning) if url.trim().is_empty() => url.push_str(value),
            (Some(value), UrlPosition::Host) => url.push_str(&encode_host(value)),
            (Some(value), _) => url.push_str(&utf8_percent_encode(value, URL_PART_SET).to_string()),
        }
        if place == UrlPosition::Path {
            values.push(begin..url.len());
        }
    }
    if values.iter().any(|value| has_dot_segments(&url, value)) {
        return Err(
            "a value must not be `.` or `..` in the path of a URL: it would lead elsewhere"
                .to_owned(),
        );
    }
    Ok(url)
}

/// Escapes a host component; non-ASCII letters are kept.
fn encode_host(value: &str) -> String {
    let mut encoded = String::with_capacity(value.len());
    for c in value.chars() {
        if c.is_ascii() {
            encoded.extend(utf8_percent_encode(c.encode_utf8(&mut [0; 4]), URL_HOST_SET));
        } else {
            encoded.push(c);
        }
    }
    encoded
}

/// Position at the end of a URL prefix.
fn url_position(url_start: &str) -> UrlPosition {
    let Some((_, after)) = url_start.split_once("://") else { return UrlPosition::Beginning };
    match after.find(PART_DELIMITERS) {
        None => UrlPosition::Host,
        Some(end) if after[end..].contains(['?', '#']) => UrlPosition::Query,
        Some(_) => UrlPosition::Path,
    }
}

/// Whether a path segment with a value in it is `.` or `..`; escaped values may span segments.
fn has_dot_segments(url: &str, value: &std::ops::Range<usize>) -> bool {
    let begin = url[..value.start].rfind(PART_DELIMITERS).map_or(0, |at| at + 1);
    let end = url[value.end..].find(PART_DELIMITERS).map_or(url.len(), |at| value.end + at);
    let steps = url[begin..end].to_ascii_lowercase().replace("%2e", ".");
    steps.split(PART_DELIMITERS).any(|step| step == "." || step == "..")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finish_parts(parts: &[(&str, &str)]) -> Result<String, String> {
        let text: String =
            parts.iter().map(|(literal, value)| format!("{literal}\0p{value}\0")).collect();
        finish_url(&text)
    }

    #[test]
    fn a_value_stays_one_part_of_the_url() {
        for (parts, expected) in [
            (&[("https://a.example/run?name=", "a b")][..], "https://a.example/run?name=a%20b"),
            (
                &[("https://a.example/run?name=", "a&admin=1")],
                "https://a.example/run?name=a%26admin%3D1",
            ),
            (&[("https://a.example/run?name=", "x#y")], "https://a.example/run?name=x%23y"),
            (&[("https://a.example/run?name=", "ü+%")], "https://a.example/run?name=%C3%BC%2B%25"),
            (
                &[("https://a.example/", "x/../y?z"), ("/w/", "é")],
                "https://a.example/x%2F..%2Fy%3Fz/w/%C3%A9",
            ),
            (&[("https://", "a.example:81"), ("/", "b")], "https://a.example:81/b"),
            (&[("https://", "me@evil/?x")], "https://me%40evil%2F%3Fx"),
            (&[("", "https://a.example/b?c=d"), ("&e=", "f&g")], "https://a.example/b?c=d&e=f%26g"),
            (&[("", "https://a.example"), ("/", "f/g")], "https://a.example/f%2Fg"),
        ] {
            assert_eq!(finish_parts(parts).as_deref(), Ok(expected), "{parts:?}");
        }
        assert!(
            finish_url("https://a.example/t/\0s../../admin\0/run").is_err(),
            "escaped by a filter that leaves slashes"
        );
        for dots in
            [&[("https://a.example/x/", "..")][..], &[("https://a.example/.", "."), ("/y", "")]]
        {
            assert!(finish_parts(dots).is_err(), "{dots:?}");
        }
        assert!(finish_parts(&[("https://a.example/v", "1.."), ("?x=", "..")]).is_ok());
    }
}
