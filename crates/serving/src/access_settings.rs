//! Settings of who may call a program, how much, and whom it calls; the same in all programs.

use access::{AccessControl, AccessFiles, TokenFile};
use settings::{ResolvedSettings, Setting, SettingError, SettingFile};

use crate::listen::ExposurePermits;
use crate::peer::PeerToken;
use crate::server::{ClientLimiter, ClientLimits};
use crate::tls::TlsSettings;

/// `--client-rate`.
pub const CLIENT_RATE_SETTING: Setting = Setting::new(
    "client-rate",
    "COUNT",
    "Requests a second of each client (without --clients: of each address) at most; 0: any number",
)
.with_default("0");

/// `--client-concurrency`.
pub const CLIENT_CONCURRENCY_SETTING: Setting = Setting::new(
    "client-concurrency",
    "COUNT",
    "Requests of each client (without --clients: of each address) at a time at most; 0: any number",
)
.with_default("0");

/// Settings of access. Their files are opened by the commands that serve.
#[derive(Debug, Clone, Default)]
pub struct AccessSettings {
    /// `--clients`: who may call.
    clients: Option<SettingFile>,
    /// `--token-keys`: public keys of signed tokens.
    token_keys: Option<SettingFile>,
    /// `--token-audience`: what `aud` of a signed token must contain.
    token_audience: Option<String>,
    /// `--peer-token-file`: token of the calls to the peer.
    peer_token_file: Option<SettingFile>,
    /// `--allow-unauthenticated`: allows non-loopback addresses without credentials.
    allow_unauthenticated: bool,
    /// `--tls-cert`, `--peer-tls-ca` and what belongs to them.
    pub tls: TlsSettings,
    /// `--allow-plaintext`: allows non-loopback addresses without TLS.
    allow_plaintext: bool,
    client_limits: ClientLimits,
}

impl AccessSettings {
    /// Checks and types resolved settings; opens no file.
    pub fn new(resolved: &ResolvedSettings) -> Result<Self, SettingError> {
        let settings = Self {
            clients: resolved.get_file("clients"),
            token_keys: resolved.get_file("token-keys"),
            token_audience: resolved.get_optional("token-audience")?,
            tls: TlsSettings::new(resolved)?,
            peer_token_file: resolved.get_file("peer-token-file"),
            allow_unauthenticated: resolved.is_switched_on("allow-unauthenticated")?,
            allow_plaintext: resolved.is_switched_on("allow-plaintext")?,
            client_limits: ClientLimits {
                rate: resolved.get_in_range(CLIENT_RATE_SETTING.name, 0..=1_000_000)?,
                concurrency: resolved
                    .get_in_range(CLIENT_CONCURRENCY_SETTING.name, 0..=1_000_000)?,
            },
        };
        settings
            .access_files()
            .check()
            .map_err(|error| resolved.invalid_setting(error.setting, error.reason))?;
        Ok(settings)
    }

    fn access_files(&self) -> AccessFiles {
        let path_of = |file: &Option<SettingFile>| file.as_ref().map(|file| file.path().to_owned());
        AccessFiles {
            clients: path_of(&self.clients),
            token_keys: path_of(&self.token_keys),
            token_audience: self.token_audience.clone(),
        }
    }

    /// What allows listening on addresses that other machines can reach.
    pub fn exposure_permits(&self) -> ExposurePermits {
        ExposurePermits {
            authentication: self.clients.is_some() || self.allow_unauthenticated,
            plaintext: self.allow_plaintext || self.tls.is_served(),
        }
    }

    /// Opens and follows the clients file and the keys of signed tokens; `None` if no clients are
    /// configured.
    pub fn open_clients(&self) -> Result<Option<AccessControl>, SettingError> {
        let error = match self.access_files().follow() {
            Ok(control) => return Ok(control),
            Err(error) => error,
        };
        let file = if error.setting == "token-keys" { &self.token_keys } else { &self.clients };
        match file {
            Some(file) => file.open(|_| Err(error.reason)),
            None => Err(SettingError::Missing(error.setting)),
        }
    }

    /// A limiter of the clients, for all ports of the process.
    pub fn client_limiter(&self) -> ClientLimiter {
        ClientLimiter::new(self.client_limits)
    }

    /// Opens and follows the token file of the calls to the peer.
    pub fn open_peer_token(&self) -> Result<PeerToken, SettingError> {
        match &self.peer_token_file {
            Some(file) => file.open(TokenFile::open).map(PeerToken::File),
            None => Ok(PeerToken::None),
        }
    }
}
