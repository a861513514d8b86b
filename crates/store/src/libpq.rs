//! The environment variables of libpq, such as `PGSSLMODE`: they are for other programs. The driver reads some of them behind
//! everybody's back, into every set of options, and has no way to take them out again; so they are taken from the process.

use std::sync::OnceLock;

/// The variables that say how to connect (libpq's documentation, "Environment Variables"). `PGSYSCONFDIR` and the like say
/// nothing about a connection.
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

/// Takes libpq's variables from this process's environment, and so from its children's: a connection is what its URL says,
/// and that to an embedded cluster is nobody's matter. A program calls it first of all.
///
/// # Safety
///
/// No other thread may be running: it could be reading the environment.
#[allow(unsafe_code)]
pub unsafe fn remove_libpq_variables() {
    let set: Vec<&str> =
        LIBPQ_VARIABLES.into_iter().filter(|name| std::env::var_os(name).is_some()).collect();
    for name in &set {
        // SAFETY: the caller's promise.
        unsafe { std::env::remove_var(name) };
    }
    // A second call finds none, and changes nothing.
    let _ = REMOVED_VARIABLES.set(set);
}

/// What somebody who set such variables has to know, if there were any.
pub(crate) fn removed_variables_hint() -> Option<String> {
    let removed = REMOVED_VARIABLES.get().filter(|removed| !removed.is_empty())?;
    Some(format!(
        "{} of the environment: not used, the database's URL says everything",
        removed.join(", ")
    ))
}
