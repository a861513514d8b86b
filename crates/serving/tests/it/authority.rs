//! A certificate authority of a test, and files of what it issues.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, SanType,
    date_time_ymd,
};
use serving::tls::TlsPaths;
use tempfile::TempDir;

/// A year that is not over during any test.
pub const LATER: i32 = 2090;

pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub pem: String,
}

/// A certificate, with those above it, and its key; both PEM.
pub struct Issued {
    pub certificate: String,
    pub key: String,
}

impl Authority {
    pub fn new() -> Self {
        let (params, key) = (Self::params(), KeyPair::generate().unwrap());
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// An authority below this one. All of them have one name, as after a change of the key.
    pub fn below(&self) -> Self {
        let (mut params, key) = (Self::params(), KeyPair::generate().unwrap());
        params.distinguished_name.push(DnType::CommonName, "intermediate");
        let pem = params.signed_by(&key, &self.issuer).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    fn params() -> CertificateParams {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
    }

    /// A certificate for these names (`dns:…`, `uri:…`, `cn:…`), valid until the end of `year`.
    pub fn issue(&self, names: &[&str], year: i32) -> Issued {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([]).unwrap();
        params.distinguished_name = DistinguishedName::new();
        for name in names {
            match name.split_once(':').unwrap() {
                ("dns", name) => {
                    params.subject_alt_names.push(SanType::DnsName(name.try_into().unwrap()));
                }
                ("uri", uri) => {
                    params.subject_alt_names.push(SanType::URI(uri.try_into().unwrap()));
                }
                (_, name) => params.distinguished_name.push(DnType::CommonName, name),
            }
        }
        (params.not_before, params.not_after) =
            (date_time_ymd(2020, 1, 1), date_time_ymd(year, 12, 31));
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        Issued { certificate, key: key.serialize_pem() }
    }
}

/// A folder with the files of one side.
pub struct Files {
    folder: TempDir,
    has_identity: bool,
    has_authorities: bool,
}

impl Files {
    pub fn new(identity: Option<&Issued>, authorities: &[&Authority]) -> Self {
        let files = Self {
            folder: tempfile::tempdir().unwrap(),
            has_identity: identity.is_some(),
            has_authorities: !authorities.is_empty(),
        };
        if let Some(issued) = identity {
            files.replace(issued);
        }
        let pem: String = authorities.iter().map(|authority| authority.pem.as_str()).collect();
        files.write("ca.pem", &pem, 0o644);
        files
    }

    /// Replaces certificate and key, one after the other, each by a renamed file.
    pub fn replace(&self, issued: &Issued) {
        self.write("cert.pem", &issued.certificate, 0o644);
        self.write("key.pem", &issued.key, 0o600);
    }

    pub fn write(&self, name: &str, text: &str, mode: u32) {
        let new = self.path("new");
        std::fs::write(&new, text).unwrap();
        std::fs::set_permissions(&new, Permissions::from_mode(mode)).unwrap();
        std::fs::rename(new, self.path(name)).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn paths(&self) -> TlsPaths {
        TlsPaths {
            identity: self.has_identity.then(|| (self.path("cert.pem"), self.path("key.pem"))),
            authorities: self.has_authorities.then(|| self.path("ca.pem")),
        }
    }
}
