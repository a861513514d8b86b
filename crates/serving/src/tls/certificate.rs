//! What a certificate says: its names and its expiry.

use std::time::Duration;

use access::ClientCertificate;
use chrono::{DateTime, Utc};
use rustls::pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, Error, KeyUsage};

/// What a verified certificate says about a client; `None` if it cannot be read.
pub(crate) fn read_client_certificate(
    certificate: &CertificateDer<'_>,
) -> Option<ClientCertificate> {
    let expires = find_expiry(certificate)?;
    let parsed = EndEntityCert::try_from(certificate).ok()?;
    let dns = parsed.valid_dns_names().map(|name| format!("dns:{name}"));
    let uris = parsed.valid_uri_names().map(|name| format!("uri:{name}"));
    Some(ClientCertificate { names: dns.chain(uris).collect(), expires })
}

/// When a certificate expires. The library tells it in the error of a check at the end of time,
/// which comes before all others; it has no other access to it.
pub(super) fn find_expiry(certificate: &CertificateDer<'_>) -> Option<DateTime<Utc>> {
    let parsed = EndEntityCert::try_from(certificate).ok()?;
    let end_of_time = UnixTime::since_unix_epoch(Duration::from_secs(u64::MAX));
    let usage = KeyUsage::client_auth();
    match parsed.verify_for_usage(&[], &[], &[], end_of_time, usage, None, None) {
        Err(Error::CertExpired { not_after, .. }) => {
            let seconds = i64::try_from(not_after.as_secs()).ok()?;
            DateTime::from_timestamp(seconds, 0)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, SanType, date_time_ymd};

    use super::*;

    #[test]
    fn names_and_expiry_are_those_of_the_certificate() {
        for (year, is_ca) in [(1999, false), (2049, false), (2051, true)] {
            let mut params = CertificateParams::new(vec!["Robot.example".to_owned()]).unwrap();
            let uri = "spiffe://example/robot".try_into().unwrap();
            params.subject_alt_names.push(SanType::URI(uri));
            let mail = "robot@example.com".try_into().unwrap();
            params.subject_alt_names.push(SanType::Rfc822Name(mail));
            params.not_before = date_time_ymd(1998, 1, 1);
            params.not_after = date_time_ymd(year, 2, 3);
            if is_ca {
                params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
            }
            let made = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
            let read = read_client_certificate(made.der()).unwrap();
            assert_eq!(read.names, ["dns:Robot.example", "uri:spiffe://example/robot"]);
            assert_eq!(read.expires.to_string(), format!("{year}-02-03 00:00:00 UTC"));
        }
    }
}
