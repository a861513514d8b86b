//! Signers of tokens, for tests.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::Utc;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
};

/// The audience of all tokens.
pub(crate) const AUDIENCE: &str = "orders";

/// A modulus of RSA, and a token that was signed elsewhere (PyJWT) with the key whose `kid` is `rsa`:
/// for `svc-a` and [`AUDIENCE`], until 2100.
pub(crate) const RSA_MODULUS: &str = "sWaAKe3nT8BwmPpKlpRFBkor0TfJY3KB6bD5aWNlRVtL9MgH9BJ3-a8wVY-bI_HC0wn8Bz_Y6_KmosisYmTr6kfajjdkQxUS689QzxZkg7NOvVQkGSF3_W9g79mP-YvoXo2GBRvRG0XenNtngRFaOJ70BMJoHxaKpDP6qYFSzdVnsBOoM9rzGoOmdUhGOOJpiovkOFpLvzpLzRYNOmkVydnBKcFCoQObhvw1Flm1R1DQFFIZehLBDaNZUdexkEKWOerBQ9qpT4JrzipDnEB9N7SDQSFu7LWiwo1H9sr-kU5A6vvtgBfHeVXzbTSvb3yoDg_MxzyWQNNN0_ogqDvzSw";
pub(crate) const RSA_TOKEN: &str = "eyJhbGciOiJSUzI1NiIsImtpZCI6InJzYSIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJzdmMtYSIsImF1ZCI6Im9yZGVycyIsImV4cCI6NDEwMjQ0NDgwMH0.EKcwwM8AjGXbgd_mn7oMD5FmUODUVhGO2ql6M5CW56f0PV5Ix8wJgxuX5UDoPcw-GAeCroima509g9Z0DL6Pi1K2AyIrQ1fY4zwOg3fy9ifqfqn8K6jLh_OPFmur30vLhg5PqGnLd9tPQl-rP9S5VmxRAEPh7PBhprn1WMVPI77A3JEbmexCu_JOCZl0JF7yecY93qJEGn6TrHRodtp75Lxjiu0cJYolVlefNfms47Mo-HMVU4spb2mplR4rWMRXsPfVM71MabegmpwjO2aZsO4_ZVS-9PDlz5cA9n2R6WxGok7xzN9VmV2lZnvLJctz_REyXFHDR9DkZH-VwqMUYA";

enum SigningKey {
    Ed25519(Ed25519KeyPair),
    P256(EcdsaKeyPair),
}

/// A key pair with a `kid`.
pub(crate) struct Signer {
    id: &'static str,
    key: SigningKey,
}

impl Signer {
    pub(crate) fn ed25519(id: &'static str) -> Self {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        let pair = Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap();
        Self { id, key: SigningKey::Ed25519(pair) }
    }

    pub(crate) fn es256(id: &'static str) -> Self {
        let (algorithm, random) = (&ECDSA_P256_SHA256_FIXED_SIGNING, SystemRandom::new());
        let document = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref(), &random).unwrap();
        Self { id, key: SigningKey::P256(pair) }
    }

    pub(crate) fn algorithm(&self) -> &'static str {
        match &self.key {
            SigningKey::Ed25519(_) => "EdDSA",
            SigningKey::P256(_) => "ES256",
        }
    }

    /// The bytes of the public key: point or coordinates.
    pub(crate) fn public_key(&self) -> &[u8] {
        match &self.key {
            SigningKey::Ed25519(pair) => pair.public_key().as_ref(),
            SigningKey::P256(pair) => &pair.public_key().as_ref()[1..],
        }
    }

    /// The public key as a member of a JWKS.
    pub(crate) fn jwk(&self) -> String {
        let (id, algorithm, public) = (self.id, self.algorithm(), self.public_key());
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let key = match &self.key {
            SigningKey::Ed25519(_) => {
                format!(r#""kty": "OKP", "crv": "Ed25519", "x": "{}""#, encode(public))
            }
            SigningKey::P256(_) => {
                let (x, y) = public.split_at(32);
                let (x, y) = (encode(x), encode(y));
                format!(r#""kty": "EC", "crv": "P-256", "x": "{x}", "y": "{y}""#)
            }
        };
        format!(r#"{{{key}, "kid": "{id}", "alg": "{algorithm}", "use": "sig"}}"#)
    }

    /// A token with these claims.
    pub(crate) fn sign(&self, claims: &str) -> String {
        let (id, algorithm) = (self.id, self.algorithm());
        let header = format!(r#"{{"alg": "{algorithm}", "kid": "{id}", "typ": "JWT"}}"#);
        self.sign_with(&header, claims)
    }

    /// A token with this header and these claims, which may be anything.
    pub(crate) fn sign_with(&self, header: &str, claims: &str) -> String {
        let [header, claims] = [header, claims].map(|json| URL_SAFE_NO_PAD.encode(json));
        let signed = format!("{header}.{claims}");
        let signature = match &self.key {
            SigningKey::Ed25519(pair) => pair.sign(signed.as_bytes()).as_ref().to_vec(),
            SigningKey::P256(pair) => {
                let signature = pair.sign(&SystemRandom::new(), signed.as_bytes());
                signature.unwrap().as_ref().to_vec()
            }
        };
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

/// A JWKS of these signers' public keys.
pub(crate) fn key_set(signers: &[&Signer]) -> String {
    let keys: Vec<String> = signers.iter().map(|signer| signer.jwk()).collect();
    format!(r#"{{"keys": [{}]}}"#, keys.join(", "))
}

/// Claims for [`AUDIENCE`] and one hour.
pub(crate) fn claims_of(subject: &str) -> String {
    claims_until(subject, Utc::now().timestamp() + 3600)
}

/// Claims for [`AUDIENCE`].
pub(crate) fn claims_until(subject: &str, expires: i64) -> String {
    format!(r#"{{"sub": "{subject}", "aud": "{AUDIENCE}", "exp": {expires}}}"#)
}
