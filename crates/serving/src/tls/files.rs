//! The files of one side's TLS.

use std::path::{Path, PathBuf};

use access::{PrivateFileError, read_private_file, read_trusted_file};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// Maximum size of a file in bytes.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Which of the files an error is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsFileKind {
    /// The own certificate and those that lead to its authority.
    Certificate,
    /// The private key of the own certificate.
    Key,
    /// The authorities that the other side's certificates are checked by.
    Authorities,
}

/// Why the files are refused; holds nothing of a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct TlsFileError {
    /// The file.
    pub kind: TlsFileKind,
    /// The problem.
    pub reason: String,
}

impl TlsFileError {
    pub(super) fn new(kind: TlsFileKind, reason: impl Into<String>) -> Self {
        Self { kind, reason: reason.into() }
    }
}

/// Where the files are.
#[derive(Debug, Clone)]
pub struct TlsPaths {
    /// The own certificate (PEM, then those that lead to its authority) and its private key.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// Authorities (PEM) that the other side's certificates are checked by.
    pub authorities: Option<PathBuf>,
}

/// What the files hold.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct TlsContents {
    /// Certificate and key.
    pub(super) identity: Option<(String, String)>,
    pub(super) authorities: Option<String>,
}

impl TlsPaths {
    pub(super) fn read(&self) -> Result<TlsContents, TlsFileError> {
        let identity = match &self.identity {
            Some((certificate, key)) => Some((
                read_file(TlsFileKind::Certificate, certificate, read_trusted_file)?,
                read_file(TlsFileKind::Key, key, read_private_file)?,
            )),
            None => None,
        };
        let authorities = match &self.authorities {
            Some(path) => Some(read_file(TlsFileKind::Authorities, path, read_trusted_file)?),
            None => None,
        };
        Ok(TlsContents { identity, authorities })
    }

    /// The path of a file.
    pub(super) fn path_of(&self, kind: TlsFileKind) -> Option<&Path> {
        let (certificate, key) = self.identity.as_ref().map(|(one, two)| (one, two)).unzip();
        let path = match kind {
            TlsFileKind::Certificate => certificate,
            TlsFileKind::Key => key,
            TlsFileKind::Authorities => self.authorities.as_ref(),
        };
        path.map(PathBuf::as_path)
    }
}

fn read_file(
    kind: TlsFileKind,
    path: &Path,
    read: impl FnOnce(&Path, u64) -> Result<String, PrivateFileError>,
) -> Result<String, TlsFileError> {
    read(path, MAX_FILE_BYTES).map_err(|error| TlsFileError::new(kind, error.to_string()))
}

/// The certificates of a PEM file.
pub(super) fn parse_certificates(
    kind: TlsFileKind,
    pem: &str,
) -> Result<Vec<CertificateDer<'static>>, TlsFileError> {
    let parsed: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    match parsed {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) => Err(TlsFileError::new(kind, "has no certificate in it (PEM)")),
        // The parser's error shows a line of the file, which may be another one than was meant.
        Err(_) => Err(TlsFileError::new(kind, "is no PEM file of certificates")),
    }
}

/// The private key of a PEM file.
pub(super) fn parse_key(pem: &str) -> Result<PrivateKeyDer<'static>, TlsFileError> {
    PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| {
        let reason = "has no private key in it (PEM, not encrypted)";
        TlsFileError::new(TlsFileKind::Key, reason)
    })
}

/// The authorities of a PEM file.
pub(super) fn parse_authorities(pem: &str) -> Result<RootCertStore, TlsFileError> {
    let kind = TlsFileKind::Authorities;
    let mut roots = RootCertStore::empty();
    for certificate in parse_certificates(kind, pem)? {
        roots.add(certificate).map_err(|error| {
            TlsFileError::new(kind, format!("has a certificate that is none: {error}"))
        })?;
    }
    Ok(roots)
}
