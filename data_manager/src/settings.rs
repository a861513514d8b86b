//! Settings of the data manager: the table, and typed values made from it.

use std::net::IpAddr;
use std::time::Duration;

use ::settings::{ProgramSettings, ResolvedSettings, Setting, SettingError, SettingGroup};
use serving::access_settings::{AccessSettings, CLIENT_CONCURRENCY_SETTING, CLIENT_RATE_SETTING};
use serving::tls::TLS_SETTINGS;
use store::{PgConnectOptions, parse_database_url};

use crate::misbehaviour::{CallbackMode, MisbehaviourSettings};
use crate::seed::Seed;

/// Table of flags, `DATA_MANAGER_…` variables and file keys.
pub(crate) const PROGRAM_SETTINGS: ProgramSettings = ProgramSettings {
    name: "data_manager",
    env_prefix: "DATA_MANAGER_",
    groups: &[
        SettingGroup {
            title: "Serving",
            settings: &[
                Setting::new(
                    "order-address",
                    "HOST:PORT",
                    "the order service that gets the callbacks",
                )
                .with_default("localhost:8094"),
                Setting::new(
                    "also-order-address",
                    "HOST:PORT",
                    "a second one: callbacks alternate between the two",
                ),
                Setting::new("app-port", "PORT", "gRPC port").with_default("8093"),
                Setting::new("listen", "ADDRESS,…", "addresses to listen on")
                    .with_default("127.0.0.1,::1"),
                Setting::switch(
                    "allow-unauthenticated",
                    "allow other machines to connect without credentials",
                ),
                Setting::switch(
                    "allow-plaintext",
                    "allow other machines to connect without --tls-cert",
                ),
                Setting::new(
                    "clients",
                    "FILE",
                    "the clients that may call, with their tokens and scopes (YAML, readable by nobody else)",
                ),
                Setting::new(
                    "token-keys",
                    "FILE",
                    "public keys of signed tokens (JWKS, writable by nobody else)",
                ),
                Setting::new(
                    "token-audience",
                    "NAME",
                    "what `aud` of a signed token must contain; goes with --token-keys",
                ),
                Setting::new(
                    "peer-token-file",
                    "FILE",
                    "a file with the token for calls to order services, readable by nobody else",
                ),
                CLIENT_RATE_SETTING,
                CLIENT_CONCURRENCY_SETTING,
                Setting::new(
                    "allowed-hosts",
                    "NAME,…",
                    "host names, besides loopback, that it is called by",
                ),
            ],
        },
        SettingGroup { title: "TLS", settings: TLS_SETTINGS },
        SettingGroup {
            title: "Data",
            settings: &[
                Setting::new(
                    "database-url",
                    "URL",
                    "keep what was given in this Postgres database, else in memory",
                )
                .as_secret(),
                Setting::new(
                    "database-url-file",
                    "FILE",
                    "a file with that URL, readable by nobody else",
                ),
                Setting::new("startup-timeout", "DURATION", "how long to wait for the database")
                    .with_default("60s"),
            ],
        },
        SettingGroup {
            title: "Misbehaviour",
            settings: &[
                Setting::new(
                    "seed",
                    "NUMBER",
                    "what data and misbehaviour are drawn from; random if not given",
                ),
                Setting::new(
                    "callback-mode",
                    "MODE",
                    "send the callback before or after the answer, or async to it",
                )
                .with_default("before"),
                Setting::new(
                    "callback-delay-ms",
                    "A..B",
                    "hold callbacks back for A to B milliseconds",
                )
                .with_default("0..0"),
                Setting::new("drop-callback-rate", "RATE", "part of the callbacks to lose, 0 to 1")
                    .with_default("0"),
                Setting::new(
                    "duplicate-callback-rate",
                    "RATE",
                    "part of the callbacks to send twice, 0 to 1",
                )
                .with_default("0"),
                Setting::new(
                    "error-rate",
                    "RATE",
                    "part of the questions to answer with UNAVAILABLE, 0 to 1",
                )
                .with_default("0"),
                Setting::switch(
                    "once",
                    "deliver each order's callback until it is accepted once, then never again",
                ),
            ],
        },
        SettingGroup {
            title: "Program",
            settings: &[
                Setting::new("config", "FILE", "read settings from this TOML file"),
                Setting::new(
                    "log-filter",
                    "FILTER",
                    "what to log, such as debug or data_manager=debug",
                )
                .with_default("info"),
            ],
        },
    ],
};

/// Settings of a data manager.
#[derive(Debug, Clone)]
pub struct DataManagerSettings {
    /// Order services as `host:port`; callbacks alternate between them.
    pub order_addresses: Vec<String>,
    /// Addresses to listen on.
    pub listen: Vec<IpAddr>,
    /// gRPC port; 0 takes a free one (with a single listening address).
    pub app_port: u16,
    /// Who may call, and the token of calls to the order services.
    pub access: AccessSettings,
    /// Accepted host names besides loopback.
    pub allowed_hosts: Vec<String>,
    /// Database of the assignments; `None` keeps them in memory.
    pub database: Option<PgConnectOptions>,
    /// Wait for the database at start.
    pub startup_timeout: Duration,
    /// Seed of data and faults.
    pub seed: Seed,
    /// Moment of the callbacks.
    pub mode: CallbackMode,
    /// Rates and delays of injected faults.
    pub misbehaviour: MisbehaviourSettings,
    /// Whether a callback is never sent again once accepted.
    pub once: bool,
    /// Timeouts and limits of delivery.
    pub delivery_options: DeliveryOptions,
}

/// Timeouts and limits of delivery; no flag sets them.
#[derive(Debug, Clone)]
pub struct DeliveryOptions {
    /// How long a question waits for its callback's delivery, in addition to the requested delay.
    pub delivery_timeout: Duration,
    /// Timeout of a background call to an order service.
    pub call_timeout: Duration,
    /// Backoff after the first failed attempt; doubles with each.
    pub first_retry_wait: Duration,
    /// Maximum backoff between attempts.
    pub max_retry_wait: Duration,
    /// How long a failing callback is retried; with `once`, forever.
    pub retry_timeout: Duration,
    /// Maximum callbacks waiting to be sent.
    pub max_waiting_callbacks: usize,
}

impl Default for DeliveryOptions {
    fn default() -> Self {
        Self {
            // Less than the order service's --callback-timeout of 2 s, which bounds the question.
            delivery_timeout: Duration::from_millis(1500),
            call_timeout: Duration::from_secs(5),
            first_retry_wait: Duration::from_millis(100),
            max_retry_wait: Duration::from_secs(5),
            retry_timeout: Duration::from_secs(120),
            max_waiting_callbacks: 100_000,
        }
    }
}

impl DataManagerSettings {
    /// Defaults of the flags, with seed 0, on a free port of 127.0.0.1: for use in process.
    pub fn in_process(order_addresses: Vec<String>) -> Self {
        Self {
            order_addresses,
            listen: vec![serving::listen::LOOPBACK_ADDRESSES[0]],
            app_port: 0,
            access: AccessSettings::default(),
            allowed_hosts: Vec::new(),
            database: None,
            startup_timeout: Duration::from_secs(60),
            seed: Seed(0),
            mode: CallbackMode::Before,
            misbehaviour: MisbehaviourSettings::default(),
            once: false,
            delivery_options: DeliveryOptions::default(),
        }
    }

    /// Checks and types resolved settings.
    pub(crate) fn from_resolved(resolved: &ResolvedSettings) -> Result<Self, SettingError> {
        let mut order_addresses: Vec<String> = vec![resolved.get_required("order-address")?];
        order_addresses.extend(resolved.get_optional("also-order-address")?);
        Ok(Self {
            order_addresses,
            listen: parse_listen_addresses(resolved)?,
            app_port: resolved.get_in_range("app-port", 1..=u16::MAX)?,
            access: AccessSettings::new(resolved)?,
            allowed_hosts: resolved.get_list("allowed-hosts"),
            database: parse_database_options(resolved)?,
            startup_timeout: resolved.get_duration("startup-timeout")?,
            seed: Seed(resolved.get_optional("seed")?.unwrap_or_else(rand::random)),
            mode: resolved.get_required("callback-mode")?,
            misbehaviour: MisbehaviourSettings {
                delay: resolved.get_required("callback-delay-ms")?,
                drop_rate: resolved.get_in_range("drop-callback-rate", 0.0..=1.0)?,
                duplicate_rate: resolved.get_in_range("duplicate-callback-rate", 0.0..=1.0)?,
                error_rate: resolved.get_in_range("error-rate", 0.0..=1.0)?,
            },
            once: resolved.is_switched_on("once")?,
            delivery_options: DeliveryOptions::default(),
        })
    }
}

fn parse_listen_addresses(resolved: &ResolvedSettings) -> Result<Vec<IpAddr>, SettingError> {
    let mut addresses: Vec<IpAddr> = Vec::new();
    for text in resolved.get_list("listen") {
        let address = text.parse().map_err(|_| {
            resolved.invalid_setting("listen", format!("`{text}` is not an IP address"))
        })?;
        addresses.push(address);
    }
    if addresses.is_empty() {
        return Err(resolved.invalid_setting("listen", "names no address".to_owned()));
    }
    Ok(addresses)
}

fn parse_database_options(
    resolved: &ResolvedSettings,
) -> Result<Option<PgConnectOptions>, SettingError> {
    let (name, file_name) = ("database-url", "database-url-file");
    let Some(url) = resolved.get_secret(name, file_name)? else { return Ok(None) };
    let source_name = if resolved.get_value(name).is_some() { name } else { file_name };
    parse_database_url(url.reveal())
        .map(Some)
        .map_err(|reason| resolved.invalid_setting(source_name, reason))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::misbehaviour::DelayMs;

    fn settings(args: &[&str]) -> Result<DataManagerSettings, String> {
        let line = std::iter::once("data_manager").chain(args.iter().copied()).map(Into::into);
        let matches =
            crate::commands::build_command().try_get_matches_from(::settings::normalise_args(line));
        let matches = matches.map_err(|error| ::settings::usage_error_line(&error))?;
        let resolved = ResolvedSettings::new(&PROGRAM_SETTINGS, &matches, [])
            .map_err(|error| error.to_string())?;
        DataManagerSettings::from_resolved(&resolved).map_err(|error| error.to_string())
    }

    #[test]
    fn the_defaults_are_those_of_the_spec() {
        let settings = settings(&[]).unwrap();
        assert_eq!(
            (settings.order_addresses, settings.app_port),
            (vec!["localhost:8094".to_owned()], 8093)
        );
        assert_eq!(settings.listen, serving::listen::LOOPBACK_ADDRESSES);
        assert_eq!((settings.mode, settings.once), (CallbackMode::Before, false));
        assert_eq!(settings.misbehaviour, MisbehaviourSettings::default());
        assert!(settings.database.is_none());
    }

    #[test]
    fn the_old_flags_and_all_the_others_are_understood() {
        let old = settings(&["-order_address", "localhost:8085", "-app_port", "8086"]).unwrap();
        assert_eq!((old.order_addresses, old.app_port), (vec!["localhost:8085".to_owned()], 8086));
        let line = "--seed 7 --callback-mode async --callback-delay-ms 5..9 --drop-callback-rate 0.5 \
                    --duplicate-callback-rate 1 --error-rate 0.25 --once --also-order-address other:1";
        let all = settings(&line.split_whitespace().collect::<Vec<_>>()).unwrap();
        assert_eq!((all.seed, all.mode, all.once), (Seed(7), CallbackMode::Async, true));
        let rates = MisbehaviourSettings {
            delay: DelayMs(5..=9),
            drop_rate: 0.5,
            duplicate_rate: 1.0,
            error_rate: 0.25,
        };
        assert_eq!((all.misbehaviour, all.order_addresses.len()), (rates, 2));
    }

    #[test]
    fn what_is_wrong_is_told_in_one_line_that_names_the_flag() {
        let wrong = [
            ("--app-port", "0"),
            ("--app-port", "x"),
            ("--listen", "everywhere"),
            ("--listen", ","),
            ("--callback-mode", "never"),
            ("--callback-delay-ms", "9..1"),
            ("--drop-callback-rate", "1.5"),
            ("--error-rate", "NaN"),
            ("--duplicate-callback-rate", "-0.1"),
            ("--seed", "-1"),
            ("--startup-timeout", "soon"),
            ("--database-url", "nonsense"),
        ];
        for (flag, value) in wrong {
            let error = settings(&[flag, value]).unwrap_err();
            assert!(error.contains(flag) && error.lines().count() == 1, "{error}");
        }
    }
}
