//! The data manager's settings: the table of flags, and their typed values.

use std::net::IpAddr;
use std::time::Duration;

use ::settings::{Group, Program, Resolved, Setting, SettingError};
use store::{PgConnectOptions, parse_url};

use crate::misbehaviour::{Misbehaviour, Mode};
use crate::seed::Seed;

/// The table: flags, `DATA_MANAGER_…` variables and file keys.
pub(crate) const PROGRAM: Program = Program {
    name: "data_manager",
    env_prefix: "DATA_MANAGER_",
    groups: &[
        Group {
            title: "Serving",
            settings: &[
                Setting::new("order-address", "HOST:PORT", "the order service that gets the callbacks")
                    .or("localhost:8094"),
                Setting::new(
                    "also-order-address",
                    "HOST:PORT",
                    "a second one: callbacks alternate between the two",
                ),
                Setting::new("app-port", "PORT", "gRPC port").or("8093"),
                Setting::new("listen", "ADDRESS,…", "addresses to listen on").or("127.0.0.1,::1"),
                Setting::switch(
                    "allow-unauthenticated",
                    "allow other machines to connect without credentials",
                ),
                Setting::new("allowed-hosts", "NAME,…", "host names, besides loopback, that it is called by"),
            ],
        },
        Group {
            title: "Data",
            settings: &[
                Setting::new(
                    "database-url",
                    "URL",
                    "keep what was given in this Postgres database, else in memory",
                )
                .secret(),
                Setting::new("database-url-file", "FILE", "a file with that URL, readable by nobody else"),
                Setting::new("startup-timeout", "DURATION", "how long to wait for the database").or("60s"),
            ],
        },
        Group {
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
                .or("before"),
                Setting::new("callback-delay-ms", "A..B", "hold callbacks back for A to B milliseconds")
                    .or("0..0"),
                Setting::new("drop-callback-rate", "RATE", "part of the callbacks to lose, 0 to 1").or("0"),
                Setting::new(
                    "duplicate-callback-rate",
                    "RATE",
                    "part of the callbacks to send twice, 0 to 1",
                )
                .or("0"),
                Setting::new(
                    "error-rate",
                    "RATE",
                    "part of the questions to answer with UNAVAILABLE, 0 to 1",
                )
                .or("0"),
                Setting::switch(
                    "once",
                    "deliver each order's callback until it is accepted once, then never again",
                ),
            ],
        },
        Group {
            title: "Program",
            settings: &[
                Setting::new("config", "FILE", "read settings from this TOML file"),
                Setting::new("log-filter", "FILTER", "what to log, such as debug or data_manager=debug")
                    .or("info"),
            ],
        },
    ],
};

/// How a data manager is to be run.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where callbacks go, as `host:port`; several take turns.
    pub order_addresses: Vec<String>,
    /// Where to listen.
    pub listen: Vec<IpAddr>,
    /// The gRPC port; 0 takes a free one (with a single listening address).
    pub app_port: u16,
    /// Whether addresses that other machines reach may be listened on.
    pub allow_unauthenticated: bool,
    /// The host names, besides loopback, that it is called by.
    pub allowed_hosts: Vec<String>,
    /// Where what was given is kept; in memory if absent.
    pub database: Option<PgConnectOptions>,
    /// How long to wait for the database.
    pub startup_timeout: Duration,
    /// What data and misbehaviour are drawn from.
    pub seed: Seed,
    /// When callbacks are sent.
    pub mode: Mode,
    /// What is done wrong on request.
    pub misbehaviour: Misbehaviour,
    /// Whether a callback that was accepted once is never sent again.
    pub once: bool,
    /// Patience and limits.
    pub terms: Terms,
}

/// Patience and limits of delivery, which no flag sets.
#[derive(Debug, Clone)]
pub struct Terms {
    /// How long a question waits for its callback's delivery, beside the delay that was asked for.
    pub patience: Duration,
    /// How long a call to an order service may take when no question waits for it.
    pub call_timeout: Duration,
    /// The wait after the first failed try; doubles with each.
    pub first_wait: Duration,
    /// The longest wait between tries.
    pub longest_wait: Duration,
    /// How long a callback that fails is tried again; with `once`, for ever.
    pub forget_after: Duration,
    /// Most callbacks that wait to be sent.
    pub most_waiting: usize,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            // Below the order service's --callback-timeout of 2 s, which bounds the question.
            patience: Duration::from_millis(1500),
            call_timeout: Duration::from_secs(5),
            first_wait: Duration::from_millis(100),
            longest_wait: Duration::from_secs(5),
            forget_after: Duration::from_secs(120),
            most_waiting: 100_000,
        }
    }
}

impl Settings {
    /// The flags' defaults with seed 0, on a free port of 127.0.0.1: for starting one in process.
    pub fn in_process(order_addresses: Vec<String>) -> Self {
        Self {
            order_addresses,
            listen: vec![serving::listen::LOOPBACK[0]],
            app_port: 0,
            allow_unauthenticated: false,
            allowed_hosts: Vec::new(),
            database: None,
            startup_timeout: Duration::from_secs(60),
            seed: Seed(0),
            mode: Mode::Before,
            misbehaviour: Misbehaviour::default(),
            once: false,
            terms: Terms::default(),
        }
    }

    /// The typed values of what was resolved from the table.
    pub(crate) fn of(resolved: &Resolved) -> Result<Self, SettingError> {
        let mut order_addresses: Vec<String> = vec![resolved.required("order-address")?];
        order_addresses.extend(resolved.optional("also-order-address")?);
        let rate = |name| resolved.within(name, 0.0..=1.0);
        Ok(Self {
            order_addresses,
            listen: addresses(resolved)?,
            app_port: resolved.within("app-port", 1..=u16::MAX)?,
            allow_unauthenticated: resolved.switch("allow-unauthenticated")?,
            allowed_hosts: resolved.list("allowed-hosts"),
            database: database(resolved)?,
            startup_timeout: resolved.duration("startup-timeout")?,
            seed: Seed(resolved.optional("seed")?.unwrap_or_else(rand::random)),
            mode: resolved.required("callback-mode")?,
            misbehaviour: Misbehaviour {
                delay: resolved.required("callback-delay-ms")?,
                drop_rate: rate("drop-callback-rate")?,
                duplicate_rate: rate("duplicate-callback-rate")?,
                error_rate: rate("error-rate")?,
            },
            once: resolved.switch("once")?,
            terms: Terms::default(),
        })
    }
}

fn addresses(resolved: &Resolved) -> Result<Vec<IpAddr>, SettingError> {
    let parse = |text: String| {
        let wrong = |_| resolved.invalid("listen", format!("`{text}` is not an IP address"));
        text.parse().map_err(wrong)
    };
    let addresses: Vec<IpAddr> = resolved.list("listen").into_iter().map(parse).collect::<Result<_, _>>()?;
    if addresses.is_empty() {
        return Err(resolved.invalid("listen", "names no address".to_owned()));
    }
    Ok(addresses)
}

fn database(resolved: &Resolved) -> Result<Option<PgConnectOptions>, SettingError> {
    let (name, file_name) = ("database-url", "database-url-file");
    let Some(url) = resolved.secret(name, file_name)? else { return Ok(None) };
    let given = if resolved.value(name).is_some() { name } else { file_name };
    parse_url(url.reveal()).map(Some).map_err(|reason| resolved.invalid(given, reason))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::misbehaviour::DelayMs;

    fn settings(args: &[&str]) -> Result<Settings, String> {
        let line = std::iter::once("data_manager").chain(args.iter().copied()).map(Into::into);
        let matches = crate::commands::command().try_get_matches_from(::settings::normalise(line));
        let matches = matches.map_err(|error| ::settings::one_line(&error))?;
        let resolved = Resolved::new(&PROGRAM, &matches, []).map_err(|error| error.to_string())?;
        Settings::of(&resolved).map_err(|error| error.to_string())
    }

    #[test]
    fn the_defaults_are_those_of_the_spec() {
        let settings = settings(&[]).unwrap();
        assert_eq!((settings.order_addresses, settings.app_port), (vec!["localhost:8094".to_owned()], 8093));
        assert_eq!(settings.listen, serving::listen::LOOPBACK);
        assert_eq!((settings.mode, settings.once), (Mode::Before, false));
        assert_eq!(settings.misbehaviour, Misbehaviour::default());
        assert!(settings.database.is_none());
    }

    #[test]
    fn the_old_flags_and_all_the_others_are_understood() {
        let old = settings(&["-order_address", "localhost:8085", "-app_port", "8086"]).unwrap();
        assert_eq!((old.order_addresses, old.app_port), (vec!["localhost:8085".to_owned()], 8086));
        let line = "--seed 7 --callback-mode async --callback-delay-ms 5..9 --drop-callback-rate 0.5 \
                    --duplicate-callback-rate 1 --error-rate 0.25 --once --also-order-address other:1";
        let all = settings(&line.split_whitespace().collect::<Vec<_>>()).unwrap();
        assert_eq!((all.seed, all.mode, all.once), (Seed(7), Mode::Async, true));
        let rates =
            Misbehaviour { delay: DelayMs(5..=9), drop_rate: 0.5, duplicate_rate: 1.0, error_rate: 0.25 };
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
