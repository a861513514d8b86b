//! Canonical keys, shard hashes and ids. The SHA-1 of the shard key's canonical text selects the
//! shard; ids derive from the first half of a SHA-256, so they are the same on every shard and in
//! every process.

use sha1::Sha1;
use sha2::{Digest as _, Sha256};

/// Canonical text of named values: `name=value` pairs joined by `&`, with everything but RFC 3986
/// unreserved characters percent-encoded. `values` must be sorted by name.
pub fn encode_canonical<'a>(values: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let mut text = String::with_capacity(64);
    for (name, value) in values {
        if !text.is_empty() {
            text.push('&');
        }
        percent_encode(name, &mut text);
        text.push('=');
        percent_encode(value, &mut text);
    }
    text
}

/// Parses a canonical text, as written by [`encode_canonical`].
pub fn parse_canonical(text: &str) -> Vec<(String, String)> {
    let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (percent_decode(name), percent_decode(value))).collect()
}

fn percent_encode(text: &str, target: &mut String) {
    const HEX_DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    if text.bytes().all(is_unreserved) {
        return target.push_str(text);
    }
    for byte in text.bytes() {
        if is_unreserved(byte) {
            target.push(char::from(byte));
        } else {
            target.push('%');
            target.push(char::from(HEX_DIGITS[usize::from(byte >> 4)]));
            target.push(char::from(HEX_DIGITS[usize::from(byte & 15)]));
        }
    }
}

/// Whether RFC 3986 allows the byte without encoding.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

fn percent_decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let encoded_byte = (*first == b'%').then(|| tail.get(..2)).flatten();
        let encoded_byte = encoded_byte
            .and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        bytes.push(encoded_byte.unwrap_or(*first));
        rest = if encoded_byte.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// SHA-1 of a shard key; the shard whose range contains it owns the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardHash(pub [u8; 20]);

impl ShardHash {
    /// Hash of a shard key's canonical text.
    pub fn from_shard_key(canonical_shard_key: &str) -> Self {
        Self(Sha1::digest(canonical_shard_key.as_bytes()).into())
    }

    /// First eight bytes of the hash, the resolution of shard ranges.
    pub fn hash_prefix(self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    }

    /// Lower-case hex, 40 digits.
    pub fn to_hex(self) -> String {
        hex::encode(self.0)
    }
}

/// SHA-256 over length-prefixed parts, so that different lists of parts never collide by
/// concatenation.
pub(crate) fn digest_parts<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> [u8; 32] {
    // Concatenate first: one hash update is cheaper than one per short part.
    let mut text = Vec::with_capacity(256);
    for part in parts {
        text.extend_from_slice(&(part.len() as u64).to_le_bytes());
        text.extend_from_slice(part);
    }
    Sha256::digest(&text).into()
}

/// Id derived from an object's parts, and eight more bytes that detect a collision of ids.
pub(crate) fn derive_id<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> (i64, i64) {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, ..] = digest_parts(parts);
    (i64::from_be_bytes([a, b, c, d, e, f, g, h]), i64::from_be_bytes([i, j, k, l, m, n, o, p]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_canonical_text_encodes_everything_but_unreserved() {
        let values = [("client", "a b&c=é/~-._"), ("n", "-7")];
        let text = encode_canonical(values);
        assert_eq!(text, "client=a%20b%26c%3D%C3%A9%2F~-._&n=-7");
        let parsed = parse_canonical(&text);
        assert_eq!(parsed, values.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn the_hash_is_sha1() {
        // printf 'storage_id=7' | sha1sum
        assert_eq!(
            ShardHash::from_shard_key("storage_id=7").to_hex(),
            "c86a8df0febdadcd94ebed63182dd24faff37b71"
        );
    }
}
