//! Settings of TLS; the same in all programs.

use settings::{ResolvedSettings, Setting, SettingError, SettingFile};

use super::client::ClientTls;
use super::files::{TlsFileError, TlsFileKind, TlsPaths};
use super::server::ServerTls;

/// Settings of a program that serves and calls a peer.
pub const TLS_SETTINGS: &[Setting] = &[
    Setting::new(
        "tls-cert",
        "FILE",
        "Serve with TLS and this certificate (PEM, with those that lead to its authority); followed while the program runs",
    ),
    Setting::new("tls-key", "FILE", "The private key of --tls-cert (PEM), readable by nobody else"),
    Setting::new(
        "tls-client-ca",
        "FILE",
        "Ask callers for certificates of these authorities (PEM); the clients file says whose they are",
    ),
    Setting::new(
        "peer-tls-ca",
        "FILE",
        "Call the other program with TLS, and check it by these authorities (PEM)",
    ),
    Setting::new("peer-tls-cert", "FILE", "The certificate for calls to the other program (PEM)"),
    Setting::new(
        "peer-tls-key",
        "FILE",
        "The private key of --peer-tls-cert (PEM), readable by nobody else",
    ),
];

/// Settings of TLS. Their files are opened by the commands that serve.
#[derive(Debug, Clone, Default)]
pub struct TlsSettings {
    server: Option<TlsFiles>,
    peer: Option<TlsFiles>,
}

/// The files of one side, as settings name them.
#[derive(Debug, Clone)]
struct TlsFiles {
    identity: Option<(SettingFile, SettingFile)>,
    authorities: Option<SettingFile>,
}

impl TlsSettings {
    /// Checks which settings are given; opens no file.
    pub fn new(resolved: &ResolvedSettings) -> Result<Self, SettingError> {
        let identity = read_identity(resolved, "tls-cert", "tls-key")?;
        let authorities = resolved.get_file("tls-client-ca");
        if authorities.is_some() {
            for (needed, name) in
                [(identity.is_some(), "tls-cert"), (has_clients(resolved), "clients")]
            {
                if !needed {
                    let reason = format!("--{name} is needed, too");
                    return Err(resolved.invalid_setting("tls-client-ca", reason));
                }
            }
        }
        let peer_identity = read_identity(resolved, "peer-tls-cert", "peer-tls-key")?;
        let peer_authorities = resolved.get_file("peer-tls-ca");
        if peer_identity.is_some() && peer_authorities.is_none() {
            let reason = "--peer-tls-ca is needed, too: it switches TLS on".to_owned();
            return Err(resolved.invalid_setting("peer-tls-cert", reason));
        }
        Ok(Self {
            server: identity.map(|files| TlsFiles { identity: Some(files), authorities }),
            peer: peer_authorities
                .map(|file| TlsFiles { identity: peer_identity, authorities: Some(file) }),
        })
    }

    /// Whether the listeners speak TLS.
    pub fn is_served(&self) -> bool {
        self.server.is_some()
    }

    /// Whether the peer is called with TLS.
    pub fn is_used_for_peer(&self) -> bool {
        self.peer.is_some()
    }

    /// Opens and follows the files of the listeners; `None` without TLS.
    pub fn open_server(&self) -> Result<Option<ServerTls>, SettingError> {
        self.server.as_ref().map(|files| files.open(ServerTls::open)).transpose()
    }

    /// Opens and follows the files for gRPC calls to the peer; `None` without TLS.
    pub fn open_peer(&self) -> Result<Option<ClientTls>, SettingError> {
        let open = |paths| ClientTls::open(paths, &[b"h2"]);
        self.peer.as_ref().map(|files| files.open(open)).transpose()
    }
}

/// TLS of a command that calls a running service: `--tls-ca`, else this machine's authorities, and
/// `--tls-client-cert` with `--tls-client-key`. `protocols` are offered to the server (ALPN).
pub fn open_command_tls(
    resolved: &ResolvedSettings,
    protocols: &'static [&'static [u8]],
) -> Result<ClientTls, SettingError> {
    let identity = read_identity(resolved, "tls-client-cert", "tls-client-key")?;
    let files = TlsFiles { identity, authorities: resolved.get_file("tls-ca") };
    match &files {
        TlsFiles { identity: None, authorities: None } => ClientTls::open(files.paths(), protocols)
            .map_err(|error| resolved.invalid_setting("tls-ca", error.reason)),
        files => files.open(|paths| ClientTls::open(paths, protocols)),
    }
}

impl TlsFiles {
    fn paths(&self) -> TlsPaths {
        let identity = self.identity.as_ref();
        TlsPaths {
            identity: identity.map(|(one, other)| (one.path().to_owned(), other.path().to_owned())),
            authorities: self.authorities.as_ref().map(|file| file.path().to_owned()),
        }
    }

    /// What `open` makes of the files; an error names the setting of the file that it is about.
    fn open<T>(
        &self,
        open: impl FnOnce(TlsPaths) -> Result<T, TlsFileError>,
    ) -> Result<T, SettingError> {
        let error = match open(self.paths()) {
            Ok(opened) => return Ok(opened),
            Err(error) => error,
        };
        let (certificate, key) = self.identity.as_ref().map(|(one, two)| (one, two)).unzip();
        let named = match error.kind {
            TlsFileKind::Certificate => certificate,
            TlsFileKind::Key => key,
            TlsFileKind::Authorities => self.authorities.as_ref(),
        };
        match named.or(certificate).or(self.authorities.as_ref()) {
            Some(file) => file.open(|_| Err(error)),
            None => Err(SettingError::Missing("tls-cert")),
        }
    }
}

fn has_clients(resolved: &ResolvedSettings) -> bool {
    resolved.get_value("clients").is_some()
}

/// A certificate and its key: both or none.
fn read_identity(
    resolved: &ResolvedSettings,
    certificate: &'static str,
    key: &'static str,
) -> Result<Option<(SettingFile, SettingFile)>, SettingError> {
    match (resolved.get_file(certificate), resolved.get_file(key)) {
        (Some(certificate), Some(key)) => Ok(Some((certificate, key))),
        (None, None) => Ok(None),
        (one, _) => {
            let (given, missing) =
                if one.is_some() { (certificate, key) } else { (key, certificate) };
            Err(resolved.invalid_setting(given, format!("--{missing} is needed, too")))
        }
    }
}
