//! Certificates by which clients are recognised.

use chrono::{DateTime, Utc};

/// Kinds of names in a clients file, each with its prefix.
const NAME_PREFIXES: [&str; 2] = ["dns:", "uri:"];
/// Maximum length of a name in bytes, with its prefix.
const MAX_NAME_BYTES: usize = 2048;

/// What a verified certificate says about a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// Subject alternative names, such as `dns:robot.example` and `uri:spiffe://example/robot`.
    pub names: Vec<String>,
    /// When it expires: calls that are open then end.
    pub expires: DateTime<Utc>,
}

/// Checks a name of the clients file, which is compared exactly.
pub(crate) fn check_certificate_name(name: &str) -> Result<(), String> {
    let rest = NAME_PREFIXES.iter().find_map(|prefix| name.strip_prefix(prefix));
    let rest = rest.ok_or("must begin with `dns:` or `uri:`: the common name is never read")?;
    if name.len() > MAX_NAME_BYTES || rest.is_empty() || !rest.bytes().all(is_name_byte) {
        return Err(format!("must be 1 to {MAX_NAME_BYTES} printable ASCII characters"));
    }
    if name.starts_with("dns:") && rest.contains('*') {
        return Err("must be one name, which is compared exactly: there are no patterns".to_owned());
    }
    if name.starts_with("uri:") && !rest.contains(':') {
        return Err("must be a URI, such as `uri:spiffe://example/robot`".to_owned());
    }
    Ok(())
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_graphic()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_exact_names_of_known_kinds_are_taken() {
        for good in ["dns:robot.example", "uri:spiffe://example/robot", "uri:urn:a:b"] {
            assert_eq!(check_certificate_name(good), Ok(()), "{good}");
        }
        let long = format!("dns:{}", "a".repeat(MAX_NAME_BYTES));
        for bad in [
            "",
            "robot.example",
            "dns:",
            "DNS:robot.example",
            "cn:robot",
            "dns:*.example",
            "dns:a b",
            "uri:robot",
            "uri:spiffe://exämple/",
            &long,
        ] {
            assert!(check_certificate_name(bad).is_err(), "{bad}");
        }
    }
}
