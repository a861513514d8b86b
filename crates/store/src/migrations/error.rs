//! Why a database's schema does not fit this program.

use sqlx::migrate::MigrateError;

/// Why a database's schema does not fit this program.
#[derive(Debug, thiserror::Error)]
pub enum MigrationError {
    /// The database lacks migrations that this program needs.
    #[error(
        "the {role} database is at schema version {found}, this program needs {needed}: run `migrate` first"
    )]
    TooOld {
        /// The database role.
        role: &'static str,
        /// The version found; 0 for an empty database.
        found: i64,
        /// The version needed.
        needed: i64,
    },
    /// The database has other SQL functions than this program.
    #[error(
        "the {role} database lacks this program's SQL functions ({functions}): run `migrate` first"
    )]
    OldFunctions {
        /// The database role.
        role: &'static str,
        /// Their names, shortened.
        functions: String,
    },
    /// The database was changed in a way that this program does not understand.
    #[error(
        "the {role} database needs a program that knows schema version {min_compatible}, this one knows {known}"
    )]
    TooNew {
        /// The database role.
        role: &'static str,
        /// What the database asks for.
        min_compatible: i64,
        /// What this program knows.
        known: i64,
    },
    /// A migration was applied with other contents than this program has.
    #[error(
        "migration {version} of the {role} database is not this program's: this is a database of another program, or of a \
         development version before 0.2.0, which cannot be upgraded. Start with a new one (an embedded cluster: another \
         --data-dir; else an empty database), or go on with the program that made it"
    )]
    Diverged {
        /// The database role.
        role: &'static str,
        /// The migration's version.
        version: i64,
    },
    /// A migration failed; its transaction was rolled back.
    #[error("migrating the {role} database: {cause}")]
    Failed {
        /// The database role.
        role: &'static str,
        /// What happened; not named `source`, since it is part of the message.
        cause: MigrateError,
    },
}
