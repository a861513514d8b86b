//! Fingerprints of what was read: SHA-256, in hexadecimal where they are shown.

use std::fmt::Write as _;

use serde::Serialize;
use sha2::{Digest as _, Sha256};

/// A fingerprint.
pub(crate) type Digest = [u8; 32];

/// Of a text.
pub(crate) fn of_text(text: &str) -> Digest {
    Sha256::digest(text.as_bytes()).into()
}

/// Of anything that has a JSON form; the order of an object's keys does not matter.
pub(crate) fn of_json(value: &impl Serialize) -> Digest {
    let mut value = serde_json::to_value(value).unwrap_or_default();
    value.sort_all_objects();
    of_text(&value.to_string())
}

/// Of named fingerprints, in their order.
pub(crate) fn of_all<'n>(all: impl IntoIterator<Item = (&'n str, &'n Digest)>) -> Digest {
    let mut hasher = Sha256::new();
    for (name, digest) in all {
        hasher.update((name.len() as u64).to_be_bytes());
        hasher.update(name);
        hasher.update(digest);
    }
    hasher.finalize().into()
}

/// As it is shown.
pub(crate) fn hex(digest: &Digest) -> String {
    digest.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
