//! SHA-256 fingerprints.

use serde::Serialize;
use sha2::{Digest as _, Sha256};

/// A SHA-256 digest.
pub(crate) type Fingerprint = [u8; 32];

/// Fingerprint of a text.
pub(crate) fn hash_text(text: &str) -> Fingerprint {
    Sha256::digest(text.as_bytes()).into()
}

/// Fingerprint of a value's JSON form, independent of the order of object keys.
pub(crate) fn hash_json(value: &impl Serialize) -> Fingerprint {
    let mut value = serde_json::to_value(value).unwrap_or_default();
    value.sort_all_objects();
    hash_text(&value.to_string())
}

/// Combined fingerprint of names and fingerprints, in the given order.
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
