//! Schema versions: bringing a database to this program's version, and refusing one that does not fit.

use std::collections::HashSet;

use sqlx::migrate::{Migrate as _, MigrateError, Migrator};
use sqlx::{Connection as _, PgConnection};

/// The migrations of one database role.
pub struct MigrationSet {
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

impl MigrationSet {
    /// The control database: leases, queues, orders.
    pub fn control() -> Self {
        Self::with_migrator("control", sqlx::migrate!("../../migrations/control"))
    }

    /// A shard of the ledger: accounts, events, locks, states.
    pub fn shard() -> Self {
        Self::with_migrator("shard", sqlx::migrate!("../../migrations/shard"))
    }

    /// The data manager's own database.
    pub fn data_manager() -> Self {
        Self::with_migrator("data manager", sqlx::migrate!("../../migrations/data_manager"))
    }

    fn with_migrator(role: &'static str, mut migrator: Migrator) -> Self {
        // A newer program's migrations are fine as long as `min_compatible` allows this one.
        migrator.set_ignore_missing(true);
        Self { role, migrator }
    }

    /// All migrations, oldest first, as (version, description): what a database lacks that does not exist.
    pub fn list_all(&self) -> Vec<(i64, String)> {
        self.migrator.iter().map(|m| (m.version, m.description.to_string())).collect()
    }

    /// The migrations that `connection`'s database lacks, oldest first, as (version, description).
    pub async fn list_pending(
        &self,
        connection: &mut PgConnection,
    ) -> Result<Vec<(i64, String)>, MigrationError> {
        let applied = self.read_applied_versions(connection).await?;
        let missing = self.migrator.iter().filter(|m| !applied.contains(&m.version));
        Ok(missing.map(|m| (m.version, m.description.to_string())).collect())
    }

    /// Applies what is pending, each migration in a transaction; safe to run from several places at once.
    pub async fn apply_pending(&self, connection: &mut PgConnection) -> Result<(), MigrationError> {
        self.check_compatible(connection).await?;
        let applied = self.read_applied_versions(connection).await?;
        if self.migrator.iter().all(|migration| applied.contains(&migration.version)) {
            return Ok(());
        }
        self.migrator
            .run_direct(None, connection, false)
            .await
            .map_err(|source| self.migration_error(source))
    }

    /// Brings an empty database to this program's version; any other must be there already.
    pub async fn apply_if_empty(
        &self,
        connection: &mut PgConnection,
    ) -> Result<(), MigrationError> {
        if self.read_applied_versions(connection).await?.is_empty() {
            return self.apply_pending(connection).await;
        }
        self.check_version(connection).await
    }

    /// Checks, without changing anything, that this program may work on the database.
    pub async fn check_version(&self, connection: &mut PgConnection) -> Result<(), MigrationError> {
        let applied = self.read_applied_versions(connection).await?;
        let needed = self.latest_version();
        if self.migrator.iter().any(|m| !applied.contains(&m.version)) {
            let found = applied.iter().copied().max().unwrap_or(0).min(needed);
            return Err(MigrationError::TooOld { role: self.role, found, needed });
        }
        self.check_compatible(connection).await
    }

    async fn read_applied_versions(
        &self,
        connection: &mut PgConnection,
    ) -> Result<HashSet<i64>, MigrationError> {
        let has_table: bool =
            sqlx::query_scalar("SELECT to_regclass('_sqlx_migrations') IS NOT NULL")
                .fetch_one(&mut *connection)
                .await
                .map_err(|error| self.migration_error(error.into()))?;
        if !has_table {
            return Ok(HashSet::new());
        }
        let applied = connection
            .list_applied_migrations("_sqlx_migrations")
            .await
            .map_err(|source| self.migration_error(source))?;
        Ok(applied.into_iter().map(|m| m.version).collect())
    }

    async fn check_compatible(&self, connection: &mut PgConnection) -> Result<(), MigrationError> {
        let exists: bool =
            sqlx::query_scalar("SELECT to_regclass('schema_compatibility') IS NOT NULL")
                .fetch_one(&mut *connection)
                .await
                .map_err(|error| self.migration_error(error.into()))?;
        if !exists {
            return Ok(());
        }
        let min_compatible: i64 =
            sqlx::query_scalar("SELECT min_compatible FROM schema_compatibility")
                .fetch_one(&mut *connection)
                .await
                .map_err(|error| self.migration_error(error.into()))?;
        let known = self.latest_version();
        if min_compatible > known {
            return Err(MigrationError::TooNew { role: self.role, min_compatible, known });
        }
        connection.ping().await.map_err(|error| self.migration_error(error.into()))
    }

    fn latest_version(&self) -> i64 {
        self.migrator.iter().map(|m| m.version).max().unwrap_or(0)
    }

    fn migration_error(&self, cause: MigrateError) -> MigrationError {
        MigrationError::Failed { role: self.role, cause }
    }
}
