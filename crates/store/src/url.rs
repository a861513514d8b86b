//! Database URLs, as hosted databases give them.

use std::str::FromStr as _;
use std::sync::atomic::{AtomicBool, Ordering};

use sqlx::postgres::{PgConnectOptions, PgSslMode};

/// The parameters that say what the driver does.
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

/// Parameters of libpq that ask for no more than what is done anyway, with the values of which that is true; none: any. How
/// long to wait and how to notice a connection that is dead are settings of the programs (`docs/operations.md`).
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

/// Whether a URL asked for what the driver cannot do, and the log has not said so.
static CHANNEL_BINDING_REQUIRED: AtomicBool = AtomicBool::new(false);

/// Says, once, what of a URL is not done; URLs are read before there is a log.
pub(crate) fn warn_of_channel_binding() {
    if CHANNEL_BINDING_REQUIRED.swap(false, Ordering::Relaxed) {
        tracing::warn!(
            "channel_binding=require in a database URL: the driver binds no channels; with sslmode=verify-full it is sure of the server"
        );
    }
}

/// Reads a `postgres://` URL. What is wrong is said without a word of the URL's secrets.
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
            // The certificates that the driver takes if none are named; who names them so means the host to be verified.
            ("sslrootcert", "system") => trusts_system = true,
            (name, _) if DRIVER_PARAMETERS.contains(&name) => used.push(parameter),
            (name, value) => check_ignored_parameter(name, value)?,
        }
    }
    let url = format!("postgres://{place}?{}", used.join("&"));
    let options = PgConnectOptions::from_str(&url).map_err(|_| "is not a valid URL".to_owned())?;
    Ok(if trusts_system { options.ssl_mode(PgSslMode::VerifyFull) } else { options })
}

/// Whether a parameter that is not used may be left out.
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
