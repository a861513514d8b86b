//! Fingerprints of what was read: SHA-256, in hexadecimal where they are shown.

use std::fmt::Write as _;

use serde::Serialize;
use sha2::{Digest as _, Sha256};

/// A fingerprint.
pub(crate) type Fingerprint = [u8; 32];

/// Of a text.
pub(crate) fn hash_text(text: &str) -> Fingerprint {
    Sha256::digest(text.as_bytes()).into()
}

/// Of anything that has a JSON form; the order of an object's keys does not matter.
pub(crate) fn hash_json(value: &impl Serialize) -> Fingerprint {
    let mut value = serde_json::to_value(value).unwrap_or_default();
    value.sort_all_objects();
    hash_text(&value.to_string())
}

/// Of named fingerprints, in their order.
pub(crate) fn hash_named<'n>(
    named: impl IntoIterator<Item = (&'n str, &'n Fingerprint)>,
) -> Fingerprint {
    let mut hasher = Sha256::new();
    for (name, digest) in named {
        hasher.update((name.len() as u64).to_be_bytes());
        hasher.update(name);
        hasher.update(digest);
    }
    hasher.finalize().into()
}

/// As it is shown.
pub(crate) fn to_hex(digest: &Fingerprint) -> String {
    digest.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
