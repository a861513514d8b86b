//! The own certificate and its private key.

use chrono::{DateTime, Utc};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

use super::certificate::find_expiry;
use super::files::{TlsFileError, TlsFileKind, parse_certificates, parse_key};

/// A certificate with its key, which belong together.
pub(super) struct TlsIdentity {
    pub(super) key: CertifiedKey,
    pub(super) validity: Validity,
}

/// Until when a certificate holds.
pub(super) struct Validity {
    pub(super) expires: DateTime<Utc>,
    /// Why it does not hold now, by the clock of this machine.
    pub(super) problem: Option<String>,
}

impl TlsIdentity {
    /// Parses a certificate (with those that lead to its authority) and its key, and checks that they
    /// belong together. `usage` is what the certificate is for.
    pub(super) fn parse(
        certificate: &str,
        key: &str,
        usage: KeyUsage,
        provider: &CryptoProvider,
    ) -> Result<Self, TlsFileError> {
        let chain = parse_certificates(TlsFileKind::Certificate, certificate)?;
        let key = parse_key(key)?;
        let validity = check_chain(&chain, usage, provider)
            .map_err(|reason| TlsFileError::new(TlsFileKind::Certificate, reason))?;
        let key = CertifiedKey::from_der(chain, key, provider).map_err(|error| {
            let reason = match error {
                Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                    "is not the key of the certificate".to_owned()
                }
                other => format!("cannot be used: {other}"),
            };
            TlsFileError::new(TlsFileKind::Key, reason)
        })?;
        Ok(Self { key, validity })
    }
}

/// Checks that the last certificate has signed the first, perhaps by those between them.
fn check_chain(
    chain: &[CertificateDer<'static>],
    usage: KeyUsage,
    provider: &CryptoProvider,
) -> Result<Validity, String> {
    let [leaf, above @ ..] = chain else { return Err("has no certificate in it".to_owned()) };
    let unreadable = "has a certificate that cannot be read";
    let expires = find_expiry(leaf).ok_or(unreadable)?;
    let parsed = EndEntityCert::try_from(leaf).map_err(|_| unreadable)?;
    let anchor = above.last().map(anchor_from_trusted_cert).transpose();
    let anchor = anchor.map_err(|_| unreadable)?;
    let verified = parsed.verify_for_usage(
        provider.signature_verification_algorithms.all,
        anchor.as_slice(),
        above,
        UnixTime::now(),
        usage,
        None,
        None,
    );
    let problem = match verified {
        Ok(_) => None,
        Err(webpki::Error::CertExpired { .. }) => {
            Some(format!("holds a certificate that has expired ({expires})"))
        }
        Err(webpki::Error::CertNotValidYet { .. }) => {
            Some("holds a certificate that is not valid yet".to_owned())
        }
        // Alone in its file, the certificate was signed by an authority that is not known here.
        Err(_) if above.is_empty() => None,
        Err(error) => {
            return Err(format!(
                "holds certificates that do not lead from the first to the last: {error:?}"
            ));
        }
    };
    Ok(Validity { expires, problem })
}
