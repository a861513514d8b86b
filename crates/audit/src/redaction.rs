//! Masks what may be a secret in a difference: values of secret names, of headers, and the parts of
//! URLs that hold credentials.

use serde_json::Value as Json;

/// What stands for a secret, as in `config print`.
const SECRET_MASK: &str = "********";

/// A value under a name that contains one of these is a secret.
const SECRET_NAME_PARTS: [&str; 11] = [
    "authorization",
    "apikey",
    "accesskey",
    "privatekey",
    "cookie",
    "credential",
    "passphrase",
    "passwd",
    "password",
    "secret",
    "token",
];

/// Objects of this name hold HTTP headers: all their values are masked.
const HEADERS_NAME: &str = "headers";

/// Whether the value of the field at `path` (such as `params.headers.X-Key`) is a secret as a whole.
pub(crate) fn is_secret_path(path: &str) -> bool {
    let names: Vec<&str> = path.split(['.', '[', ']']).filter(|name| !name.is_empty()).collect();
    let within = names.split_last().map(|(_, within)| within).unwrap_or_default();
    names.iter().any(|name| is_secret_name(name))
        || within.iter().any(|name| name.eq_ignore_ascii_case(HEADERS_NAME))
}

fn is_secret_name(name: &str) -> bool {
    let letters = name.chars().filter(char::is_ascii_alphanumeric);
    let plain: String = letters.map(|letter| letter.to_ascii_lowercase()).collect();
    SECRET_NAME_PARTS.iter().any(|part| plain.contains(part))
}

/// The value that stands for a secret.
pub(crate) fn secret_mask() -> Json {
    SECRET_MASK.into()
}

/// Masks secrets within a value.
pub(crate) fn redact_value(value: &mut Json) {
    match value {
        Json::String(text) if text.contains("://") => *text = mask_urls(text),
        Json::Array(items) => items.iter_mut().for_each(redact_value),
        Json::Object(members) => {
            for (name, member) in members.iter_mut() {
                if is_secret_name(name) {
                    *member = secret_mask();
                } else if name.eq_ignore_ascii_case(HEADERS_NAME) {
                    mask_members(member);
                } else {
                    redact_value(member);
                }
            }
        }
        _ => {}
    }
}

/// Masks the values of headers, and keeps their names.
fn mask_members(headers: &mut Json) {
    match headers {
        Json::Object(members) => members.values_mut().for_each(|value| *value = secret_mask()),
        headers => *headers = secret_mask(),
    }
}

/// Keeps scheme and host of each URL: user, password, path and query may hold credentials.
fn mask_urls(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(scheme) = rest.find("://") {
        let (before, after) = rest.split_at(scheme + 3);
        shown.push_str(before);
        let url = &after[..after.find([' ', '\t', '\n', '"', '\'', ',']).unwrap_or(after.len())];
        let authority = &url[..url.find(['/', '?', '#']).unwrap_or(url.len())];
        // A password with an unescaped slash still ends at an @.
        let (host, tail) = match url.rfind('@') {
            Some(at) => {
                shown.push_str(SECRET_MASK);
                let host = &url[at..];
                host.split_at(host.find(['/', '?', '#']).unwrap_or(host.len()))
            }
            None => url.split_at(authority.len()),
        };
        shown.push_str(host);
        if tail.len() > 1 {
            shown.push('/');
            shown.push_str(SECRET_MASK);
        } else {
            shown.push_str(tail);
        }
        rest = &after[url.len()..];
    }
    shown + rest
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn secrets_are_masked_wherever_they_stand() {
        let cases = [
            (json!({"password": "p", "n": 1}), json!({"password": "********", "n": 1})),
            (json!({"X-Api-Key": "p"}), json!({"X-Api-Key": "********"})),
            (json!({"headers": {"X-Robot": "p"}}), json!({"headers": {"X-Robot": "********"}})),
            (json!(["http://u:p@h:1/x"]), json!(["http://********@h:1/********"])),
            (json!("https://hooks.h/T0/secret?k=v"), json!("https://hooks.h/********")),
            (json!("http://h:80"), json!("http://h:80")),
            (json!("http://h/"), json!("http://h/")),
            (
                json!("http://u:p/w@h, then http://i?t=1"),
                json!("http://********@h, then http://i/********"),
            ),
            (json!({"a": [{"token": {"b": 1}}]}), json!({"a": [{"token": "********"}]})),
            (json!({"key": "order", "a": "b"}), json!({"key": "order", "a": "b"})),
        ];
        for (mut value, expected) in cases {
            redact_value(&mut value);
            assert_eq!(value, expected);
        }
    }

    #[test]
    fn a_path_names_a_secret() {
        for secret in ["params.headers.X-Robot", "params.password", "a[0].accessToken", "headers.x"]
        {
            assert!(is_secret_path(secret), "{secret}");
        }
        for plain in ["params.url", "on[0].event", "name", "params.headers"] {
            assert!(!is_secret_path(plain), "{plain}");
        }
    }
}
