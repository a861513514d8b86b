//! Schema versions: bringing a database to this program's version, and refusing one that does not fit.

use std::collections::HashSet;

use sqlx::migrate::{Migrate as _, MigrateError, Migrator};
use sqlx::{Connection as _, PgConnection};

/// The migrations of one database role.
pub struct Migrations {
    role: &'static str,
    migrator: Migrator,
}

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
    /// A migration failed; its transaction was rolled back.
    #[error("migrating the {role} database: {cause}")]
    Failed {
        /// The database role.
        role: &'static str,
        /// What happened; not named `source`, since it is part of the message.
        cause: MigrateError,
    },
}

impl Migrations {
    /// The control database: leases, queues, orders.
    pub fn control() -> Self {
        Self::of("control", sqlx::migrate!("../../migrations/control"))
    }

    /// A shard of the ledger: accounts, events, locks, states.
    pub fn shard() -> Self {
        Self::of("shard", sqlx::migrate!("../../migrations/shard"))
    }

    /// The data manager's own database.
    pub fn data_manager() -> Self {
        Self::of("data manager", sqlx::migrate!("../../migrations/data_manager"))
    }

    fn of(role: &'static str, mut migrator: Migrator) -> Self {
        // A newer program's migrations are fine as long as `min_compatible` allows this one.
        migrator.set_ignore_missing(true);
        Self { role, migrator }
    }

    /// All migrations, oldest first, as (version, description): what a database lacks that does not exist.
    pub fn all(&self) -> Vec<(i64, String)> {
        self.migrator.iter().map(|m| (m.version, m.description.to_string())).collect()
    }

    /// The migrations that `connection`'s database lacks, oldest first, as (version, description).
    pub async fn pending(&self, connection: &mut PgConnection) -> Result<Vec<(i64, String)>, MigrationError> {
        let applied = self.applied(connection).await?;
        let missing = self.migrator.iter().filter(|m| !applied.contains(&m.version));
        Ok(missing.map(|m| (m.version, m.description.to_string())).collect())
    }

    /// Applies what is pending, each migration in a transaction; safe to run from several places at once.
    pub async fn apply(&self, connection: &mut PgConnection) -> Result<(), MigrationError> {
        self.check_compatible(connection).await?;
        let applied = self.applied(connection).await?;
        if self.migrator.iter().all(|migration| applied.contains(&migration.version)) {
            return Ok(());
        }
        self.migrator.run_direct(None, connection, false).await.map_err(|source| self.failed(source))
    }

    /// Brings an empty database to this program's version; any other must be there already.
    pub async fn apply_if_empty(&self, connection: &mut PgConnection) -> Result<(), MigrationError> {
        if self.applied(connection).await?.is_empty() {
            return self.apply(connection).await;
        }
        self.check(connection).await
    }

    /// Checks, without changing anything, that this program may work on the database.
    pub async fn check(&self, connection: &mut PgConnection) -> Result<(), MigrationError> {
        let applied = self.applied(connection).await?;
        let needed = self.known();
        if self.migrator.iter().any(|m| !applied.contains(&m.version)) {
            let found = applied.iter().copied().max().unwrap_or(0).min(needed);
            return Err(MigrationError::TooOld { role: self.role, found, needed });
        }
        self.check_compatible(connection).await
    }

    async fn applied(&self, connection: &mut PgConnection) -> Result<HashSet<i64>, MigrationError> {
        let known: bool = sqlx::query_scalar("SELECT to_regclass('_sqlx_migrations') IS NOT NULL")
            .fetch_one(&mut *connection)
            .await
            .map_err(|error| self.failed(error.into()))?;
        if !known {
            return Ok(HashSet::new());
        }
        let applied = connection
            .list_applied_migrations("_sqlx_migrations")
            .await
            .map_err(|source| self.failed(source))?;
        Ok(applied.into_iter().map(|m| m.version).collect())
    }

    async fn check_compatible(&self, connection: &mut PgConnection) -> Result<(), MigrationError> {
        let exists: bool = sqlx::query_scalar("SELECT to_regclass('schema_compatibility') IS NOT NULL")
            .fetch_one(&mut *connection)
            .await
            .map_err(|error| self.failed(error.into()))?;
        if !exists {
            return Ok(());
        }
        let min_compatible: i64 = sqlx::query_scalar("SELECT min_compatible FROM schema_compatibility")
            .fetch_one(&mut *connection)
            .await
            .map_err(|error| self.failed(error.into()))?;
        let known = self.known();
        if min_compatible > known {
            return Err(MigrationError::TooNew { role: self.role, min_compatible, known });
        }
        connection.ping().await.map_err(|error| self.failed(error.into()))
    }

    fn known(&self) -> i64 {
        self.migrator.iter().map(|m| m.version).max().unwrap_or(0)
    }

    fn failed(&self, cause: MigrateError) -> MigrationError {
        MigrationError::Failed { role: self.role, cause }
    }
}
