//! Removal of libpq's environment variables, such as `PGSSLMODE`. sqlx reads some of them into
//! every set of connect options and cannot unset them, so they are removed
//! from the process's environment.

use std::sync::OnceLock;

/// Variables with connection parameters (libpq's documentation, "Environment Variables").
/// `PGSYSCONFDIR` and similar ones are not parameters.
const LIBPQ_VARIABLES: [&str; 34] = [
    "PGAPPNAME",
    "PGCHANNELBINDING",
    "PGCLIENTENCODING",
    "PGCONNECT_TIMEOUT",
    "PGDATABASE",
    "PGDATESTYLE",
    "PGGEQO",
    "PGGSSENCMODE",
    "PGHOST",
    "PGHOSTADDR",
    "PGKRBSRVNAME",
    "PGLOADBALANCEHOSTS",
    "PGOPTIONS",
    "PGPASSFILE",
    "PGPASSWORD",
    "PGPORT",
    "PGREQUIREAUTH",
    "PGREQUIREPEER",
    "PGREQUIRESSL",
    "PGSERVICE",
    "PGSERVICEFILE",
    "PGSSLCERT",
    "PGSSLCERTMODE",
    "PGSSLCRL",
    "PGSSLCRLDIR",
    "PGSSLKEY",
    "PGSSLMAXPROTOCOLVERSION",
    "PGSSLMINPROTOCOLVERSION",
    "PGSSLMODE",
    "PGSSLNEGOTIATION",
    "PGSSLROOTCERT",
    "PGTARGETSESSIONATTRS",
    "PGTZ",
    "PGUSER",
];

static REMOVED_VARIABLES: OnceLock<Vec<&'static str>> = OnceLock::new();

/// Removes libpq's variables from this process's environment and thereby its children's: the URL
/// alone determines a connection, and an embedded cluster needs none. A program calls this first.
///
/// # Safety
///
/// No other thread may be running: it could read the environment concurrently.
#[allow(unsafe_code)]
pub unsafe fn remove_libpq_variables() {
    let set: Vec<&str> =
        LIBPQ_VARIABLES.into_iter().filter(|name| std::env::var_os(name).is_some()).collect();
    for name in &set {
        // SAFETY: guaranteed by the caller.
        unsafe { std::env::remove_var(name) };
    }
    // A second call finds no variables and changes nothing.
    let _ = REMOVED_VARIABLES.set(set);
}

/// Message for operators about the removed variables, if any.
pub(crate) fn removed_variables_hint() -> Option<String> {
    let removed = REMOVED_VARIABLES.get().filter(|removed| !removed.is_empty())?;
    Some(format!(
        "{} of the environment: not used, the database's URL says everything",
        removed.join(", ")
    ))
}
