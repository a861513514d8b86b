//! Settings of who may call a program, how much, and whom it calls; the same in all programs.

use access::{AccessControl, TokenFile};
use settings::{ResolvedSettings, Setting, SettingError, SettingFile};

use crate::listen::ExposurePermits;
use crate::peer::PeerToken;
use crate::server::{ClientLimiter, ClientLimits};

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
    /// `--peer-token-file`: token of the calls to the peer.
    peer_token_file: Option<SettingFile>,
    /// `--allow-unauthenticated`: allows non-loopback addresses without credentials.
    allow_unauthenticated: bool,
    /// `--allow-plaintext`: allows non-loopback addresses without TLS.
    allow_plaintext: bool,
    client_limits: ClientLimits,
}

impl AccessSettings {
    /// Checks and types resolved settings; opens no file.
    pub fn new(resolved: &ResolvedSettings) -> Result<Self, SettingError> {
        Ok(Self {
            clients: resolved.get_file("clients"),
            peer_token_file: resolved.get_file("peer-token-file"),
            allow_unauthenticated: resolved.is_switched_on("allow-unauthenticated")?,
            allow_plaintext: resolved.is_switched_on("allow-plaintext")?,
            client_limits: ClientLimits {
                rate: resolved.get_in_range(CLIENT_RATE_SETTING.name, 0..=1_000_000)?,
                concurrency: resolved
                    .get_in_range(CLIENT_CONCURRENCY_SETTING.name, 0..=1_000_000)?,
            },
        })
    }

    /// What allows listening on addresses that other machines can reach.
    pub fn exposure_permits(&self) -> ExposurePermits {
        ExposurePermits {
            authentication: self.clients.is_some() || self.allow_unauthenticated,
            plaintext: self.allow_plaintext,
        }
    }

    /// Opens and follows the clients file; `None` if no clients are configured.
    pub fn open_clients(&self) -> Result<Option<AccessControl>, SettingError> {
        self.clients.as_ref().map(|file| file.open(AccessControl::follow_file)).transpose()
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
