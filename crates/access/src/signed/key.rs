//! Public keys, and the signatures that each verifies.

use std::fmt;

use ring::agreement::{self, EphemeralPrivateKey, agree_ephemeral};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents,
    UnparsedPublicKey,
};

/// Bytes of an Ed25519 key, and of a coordinate of P-256.
const KEY_BYTES: usize = 32;
/// Lengths of RSA moduli in bits. The cost of a verification grows with the square.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=4096;

/// A public key; its kind is the algorithm.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum PublicKey {
    /// `EdDSA` on the curve Ed25519.
    Ed25519([u8; KEY_BYTES]),
    /// `ES256`; the uncompressed point.
    P256([u8; 2 * KEY_BYTES + 1]),
    /// `RS256`; modulus and exponent, big-endian, without leading zeros.
    Rsa { modulus: Vec<u8>, exponent: Vec<u8> },
}

impl PublicKey {
    /// A key of Ed25519. Bytes that are no point verify nothing.
    pub(super) fn ed25519(bytes: &[u8]) -> Result<Self, &'static str> {
        bytes.try_into().map(Self::Ed25519).map_err(|_| "must have 32 bytes")
    }

    /// A key of P-256.
    pub(super) fn p256(x: &[u8], y: &[u8]) -> Result<Self, &'static str> {
        if x.len() != KEY_BYTES || y.len() != KEY_BYTES {
            return Err("and `y` must have 32 bytes each");
        }
        let mut point = [4; 2 * KEY_BYTES + 1];
        point[1..=KEY_BYTES].copy_from_slice(x);
        point[KEY_BYTES + 1..].copy_from_slice(y);
        // A point is checked when it is used, so it is used once.
        let peer = agreement::UnparsedPublicKey::new(&agreement::ECDH_P256, point);
        EphemeralPrivateKey::generate(&agreement::ECDH_P256, &SystemRandom::new())
            .and_then(|private| agree_ephemeral(private, &peer, |_| ()))
            .map_err(|_| "and `y` are no point of P-256")?;
        Ok(Self::P256(point))
    }

    /// A key of RSA.
    pub(super) fn rsa(modulus: Vec<u8>, exponent: Vec<u8>) -> Result<Self, &'static str> {
        let leading_zeros = modulus.first().map_or(8, |first| first.leading_zeros() as usize);
        if leading_zeros == 8 || !RSA_BITS.contains(&(modulus.len() * 8 - leading_zeros)) {
            return Err("must have 2048 to 4096 bits and no zero byte in front");
        }
        if !is_odd(&modulus) {
            return Err("must be odd");
        }
        let is_short = exponent.len() <= 4 && exponent.first() != Some(&0);
        let value = exponent.iter().fold(0_u64, |value, byte| value << 8 | u64::from(*byte));
        if !is_short || value < 3 || !is_odd(&exponent) {
            return Err("goes with an `e` that is no odd number from 3 to 4294967295");
        }
        Ok(Self::Rsa { modulus, exponent })
    }

    /// The only value of `alg` that goes with this key.
    pub(super) const fn algorithm(&self) -> &'static str {
        match self {
            Self::Ed25519(_) => "EdDSA",
            Self::P256(_) => "ES256",
            Self::Rsa { .. } => "RS256",
        }
    }

    /// Whether the signature of the message is by this key.
    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::Ed25519(bytes) => {
                UnparsedPublicKey::new(&ED25519, bytes).verify(message, signature)
            }
            Self::P256(point) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message, signature)
            }
            Self::Rsa { modulus: n, exponent: e } => RsaPublicKeyComponents { n, e }.verify(
                &RSA_PKCS1_2048_8192_SHA256,
                message,
                signature,
            ),
        }
        .is_ok()
    }
}

fn is_odd(number: &[u8]) -> bool {
    number.last().is_some_and(|last| last & 1 == 1)
}

/// Shows the algorithm only.
impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.algorithm())
    }
}

/// A key of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TokenKey {
    /// Its `kid`, by which tokens choose it; compared and nothing else.
    pub(super) id: Option<String>,
    pub(super) key: PublicKey,
}
