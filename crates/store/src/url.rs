//! Parsing of database URLs as hosted databases provide them.

use std::str::FromStr as _;
use std::sync::atomic::{AtomicBool, Ordering};

use sqlx::postgres::{PgConnectOptions, PgSslMode};

/// URL parameters passed to sqlx.
const DRIVER_PARAMETERS: [&str; 12] = [
    "application_name",
    "dbname",
    "host",
    "options",
    "password",
    "port",
    "sslcert",
    "sslkey",
    "sslmode",
    "sslrootcert",
    "statement-cache-capacity",
    "user",
];

/// libpq parameters that are redundant here, with the accepted values (empty: any). Connect
/// timeouts and dead-peer detection are settings of the programs (`docs/operations.md`).
const IGNORED_PARAMETERS: [(&str, &[&str]); 18] = [
    ("channel_binding", &["disable", "prefer", "require"]),
    ("client_encoding", &["auto", "utf8", "utf-8", "unicode"]),
    ("connect_timeout", &[]),
    ("fallback_application_name", &[]),
    ("gssdelegation", &["0"]),
    ("gssencmode", &["disable", "prefer"]),
    ("keepalives", &[]),
    ("keepalives_count", &[]),
    ("keepalives_idle", &[]),
    ("keepalives_interval", &[]),
    ("load_balance_hosts", &["disable"]),
    ("replication", &["false", "off", "no", "0"]),
    ("ssl_min_protocol_version", &["tlsv1", "tlsv1.1", "tlsv1.2"]),
    ("sslcompression", &["0"]),
    ("sslnegotiation", &["postgres"]),
    ("sslsni", &["1"]),
    ("target_session_attrs", &["any", "read-write", "primary"]),
    ("tcp_user_timeout", &[]),
];

/// Whether a URL requires channel binding, which sqlx lacks, and no warning was logged yet.
static CHANNEL_BINDING_REQUIRED: AtomicBool = AtomicBool::new(false);

/// Logs the warning about channel binding once; URLs are parsed before logging is set up.
pub(crate) fn warn_of_channel_binding() {
    if CHANNEL_BINDING_REQUIRED.swap(false, Ordering::Relaxed) {
        tracing::warn!(
            "channel_binding=require in a database URL: the driver binds no channels; with sslmode=verify-full it is sure of the server"
        );
    }
}

/// Parses a `postgres://` URL. Error messages contain no secrets of the URL.
pub fn parse_database_url(url: &str) -> Result<PgConnectOptions, String> {
    let rest = url.strip_prefix("postgres://").or_else(|| url.strip_prefix("postgresql://"));
    let rest = rest.ok_or("must begin with postgres:// or postgresql://")?;
    let (place, parameters) = rest.split_once('?').unwrap_or((rest, ""));
    if place.split_once('/').is_some_and(|(_, path)| path.contains(['@', '/'])) {
        return Err(
            "holds an unescaped character: write / as %2F and @ as %40 in user and password"
                .to_owned(),
        );
    }
    let (mut used, mut trusts_system) = (Vec::new(), false);
    for parameter in parameters.split('&').filter(|parameter| !parameter.is_empty()) {
        match parameter.split_once('=').unwrap_or((parameter, "")) {
            // The root certificates that sqlx uses by default; in libpq
            // this value implies `verify-full`.
            ("sslrootcert", "system") => trusts_system = true,
            (name, _) if DRIVER_PARAMETERS.contains(&name) => used.push(parameter),
            (name, value) => check_ignored_parameter(name, value)?,
        }
    }
    let url = format!("postgres://{place}?{}", used.join("&"));
    let options = PgConnectOptions::from_str(&url).map_err(|_| "is not a valid URL".to_owned())?;
    Ok(if trusts_system { options.ssl_mode(PgSslMode::VerifyFull) } else { options })
}

/// Checks that an ignored parameter is redundant.
fn check_ignored_parameter(name: &str, value: &str) -> Result<(), String> {
    let Some((_, values)) = IGNORED_PARAMETERS.iter().find(|(known, _)| *known == name) else {
        return Err(format!(
            "unknown parameter `{name}`; used are {}",
            DRIVER_PARAMETERS.join(", ")
        ));
    };
    if !values.is_empty() && !values.iter().any(|known| value.eq_ignore_ascii_case(known)) {
        return Err(format!("`{name}` may be {}, nothing else is done here", values.join(", ")));
    }
    if name == "channel_binding" && value.eq_ignore_ascii_case("require") {
        CHANNEL_BINDING_REQUIRED.store(true, Ordering::Relaxed);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_refused_without_showing_its_secrets() {
        let bad = [
            "mysql://u:canary@h/db",
            "postgres://u:canary@h/db?sslpassword=canary",
            "postgres://u:canary@81/x@h:1/db",
            "postgres://u:canary@h:port/db",
        ];
        for url in bad {
            let error = parse_database_url(url).unwrap_err();
            assert!(!error.contains("canary"), "{error}");
        }
        let options =
            parse_database_url("postgresql://u:p%40ss@h:5433/db?sslmode=require").unwrap();
        assert_eq!(
            (options.get_host(), options.get_port(), options.get_database()),
            ("h", 5433, Some("db"))
        );
    }

    #[test]
    fn urls_of_hosted_databases_work_as_they_are_given() {
        for parameters in [
            "sslmode=require&channel_binding=require",
            "connect_timeout=10&keepalives=1&keepalives_idle=30&keepalives_interval=10&keepalives_count=3",
            "target_session_attrs=read-write&gssencmode=disable&sslmode=require",
            "sslmode=require&tcp_user_timeout=20000&client_encoding=UTF8&sslsni=1&sslnegotiation=postgres",
        ] {
            let options =
                parse_database_url(&format!("postgres://u:p@h:1/db?{parameters}")).unwrap();
            assert_eq!(options.get_database(), Some("db"), "{parameters}");
            let required = matches!(options.get_ssl_mode(), PgSslMode::Require);
            assert_eq!(required, parameters.contains("sslmode=require"), "{parameters}");
        }
        let system =
            parse_database_url("postgres://u@h/db?sslmode=require&sslrootcert=system").unwrap();
        assert!(matches!(system.get_ssl_mode(), PgSslMode::VerifyFull));
        assert_eq!(parse_database_url("postgres://u@h/db?").unwrap().get_host(), "h");
    }

    #[test]
    fn what_cannot_be_done_is_refused_not_left_out() {
        for (parameter, told) in [
            (
                "target_session_attrs=standby",
                "`target_session_attrs` may be any, read-write, primary",
            ),
            ("gssencmode=require", "`gssencmode` may be disable, prefer"),
            ("ssl_min_protocol_version=TLSv1.3", "`ssl_min_protocol_version` may be"),
            ("sslcrl=x", "unknown parameter `sslcrl`"),
        ] {
            let error = parse_database_url(&format!("postgres://u@h/db?{parameter}")).unwrap_err();
            assert!(error.starts_with(told), "{error}");
        }
    }
}
