//! Secret values that are never displayed.

use std::fmt;
use std::os::unix::fs::PermissionsExt as _;

/// Text displayed instead of a secret.
pub(crate) const SECRET_MASK: &str = "********";

/// A value masked in `Debug` output. Only [`Secret::reveal`] exposes it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret<T = String>(T);

impl<T> Secret<T> {
    /// Wraps a value, which `Debug` then masks.
    pub fn new(value: T) -> Self {
        Self(value)
    }

    /// The value; do not log or print it.
    pub fn reveal(&self) -> &T {
        &self.0
    }
}

impl<T> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(SECRET_MASK)
    }
}

/// Masks user and password of every URL in a text: from `://` to the last `@` before the path.
pub(crate) fn mask_url_credentials(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(scheme) = rest.find("://") {
        let (before, after) = rest.split_at(scheme + 3);
        shown.push_str(before);
        let authority = &after[..after.find(['/', '?', '#', ',', ' ']).unwrap_or(after.len())];
        // A password with an unescaped slash still ends at an @.
        let credentials = authority.rfind('@').or_else(|| after.rfind('@'));
        if let Some(at) = credentials {
            shown.push_str(SECRET_MASK);
            rest = &after[at..];
        } else {
            rest = after;
        }
    }
    shown + rest
}

/// Reads a trimmed secret from a file. Fails if other users have any permission on it. Errors do
/// not contain the content.
pub(crate) fn read_secret_file(file: &str) -> Result<Secret, String> {
    let metadata = std::fs::metadata(file).map_err(|error| format!("{file}: {error}"))?;
    let mode = metadata.permissions().mode();
    if mode & 0o007 != 0 {
        return Err(format!("{file} is open to everybody on this machine: chmod o= {file}"));
    }
    let text = std::fs::read_to_string(file).map_err(|error| format!("{file}: {error}"))?;
    match text.trim() {
        "" => Err(format!("{file} is empty")),
        secret => Ok(Secret::new(secret.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_format_as_a_mask() {
        assert_eq!(format!("{:?}", Secret::new("canary")), SECRET_MASK);
    }

    #[test]
    fn credentials_in_urls_are_masked_wherever_they_stand() {
        for (text, shown) in [
            ("http://u:canary@h:1/x", "http://********@h:1/x"),
            ("nats://canary@a:1,nats://u:canary@b:2", "nats://********@a:1,nats://********@b:2"),
            ("nats://a:1,nats://u:canary@b:2", "nats://********@b:2"),
            ("http://u:can/ary@h", "http://********@h"),
            ("host:1", "host:1"),
            ("http://h:1/x?y=1", "http://h:1/x?y=1"),
        ] {
            assert_eq!(mask_url_credentials(text), shown);
        }
    }

    #[test]
    fn a_file_that_others_can_read_is_refused_and_never_shown() {
        let file = std::env::temp_dir().join(format!("secret-{}", std::process::id()));
        let path = file.to_str().unwrap();
        std::fs::write(&file, "canary\n").unwrap();
        let with_mode = |mode| {
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
            read_secret_file(path)
        };
        assert_eq!(with_mode(0o600).unwrap().reveal(), "canary");
        assert_eq!(with_mode(0o440).unwrap().reveal(), "canary");
        for mode in [0o644, 0o602] {
            let refused = with_mode(mode).unwrap_err();
            assert!(refused.contains("chmod o=") && !refused.contains("canary"), "{refused}");
        }
        std::fs::remove_file(&file).unwrap();
        assert!(read_secret_file(path).is_err());
    }
}
