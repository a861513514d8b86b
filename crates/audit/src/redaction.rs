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

/// Keeps the text up to the host of its first URL: user, password, path and query may hold
/// credentials, and where a URL ends is not certain in a text with templates.
fn mask_urls(text: &str) -> String {
    let Some(scheme) = text.find("://") else { return text.to_owned() };
    let (before, url) = text.split_at(scheme + 3);
    let authority = &url[..url.find(['/', '?', '#']).unwrap_or(url.len())];
    let (user, host_start) = match authority.rfind('@') {
        Some(at) => (SECRET_MASK, at),
        None => ("", 0),
    };
    // An @ further on: the password has a slash, or it is no user's.
    if user.is_empty() && url.contains('@') {
        return format!("{before}{SECRET_MASK}");
    }
    let host = &authority[host_start..];
    let is_host = |c: char| c.is_ascii_alphanumeric() || "@-._:[]".contains(c);
    let host = &host[..host.find(|c| !is_host(c)).unwrap_or(host.len())];
    match &url[host_start + host.len()..] {
        rest @ ("" | "/") => format!("{before}{user}{host}{rest}"),
        _ => format!("{before}{user}{host}/{SECRET_MASK}"),
    }
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
                json!("https://hooks.x/{{ event.params.team }}/T0/secret"),
                json!("https://hooks.x/********"),
            ),
            (json!("http://u:p/w@h, then http://i?t=1"), json!("http://********")),
            (json!("https://h/send?to=ops@h&key=secret"), json!("https://********")),
            (json!("postgres://u:p,w@h/db"), json!("postgres://********@h/********")),
            (json!("call https://h/a,b?key=secret"), json!("call https://h/********")),
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
