//! Schema versions: bringing a database to this program's version, and refusing one that does not fit.
//!
//! - Shape: migrations (`migrations/<role>`) hold tables and data; functions are files of their own (`sql/<role>`).
//! - Cost: some six small statements for a database that is up to date.
//! - Promise: everything pending is applied in one transaction, or nothing is. Checksums of applied migrations are always
//!   compared: a migration that has landed is never edited. Both checks, of checksums and of `min_compatible`, are repeated
//!   under the lock: another program may have migrated in between.

mod error;
mod functions;

use std::borrow::Cow;
use std::collections::HashMap;

use sqlx::migrate::{Migrate as _, MigrateError, Migration, MigrationType, Migrator};
use sqlx::{Connection as _, PgConnection, Postgres, SqlStr, Transaction};

pub use error::MigrationError;
use functions::{CONTROL_FUNCTIONS, FunctionSet, SHARD_FUNCTIONS};

include!(concat!(env!("OUT_DIR"), "/migrations.rs"));

/// Version, description and text of a file of `migrations/<role>`.
type MigrationFile = (i64, &'static str, &'static str);

const MIGRATIONS_TABLE: &str = "_sqlx_migrations";

/// How many functions an error names.
const MAX_NAMED_FUNCTIONS: usize = 5;

/// The migrations and functions of one database role.
pub struct MigrationSet {
    role: &'static str,
    migrator: Migrator,
    functions: FunctionSet,
}

/// A change that a database lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PendingChange {
    /// A migration.
    Migration {
        /// Its version.
        version: i64,
        /// Its file's name, as words.
        description: String,
    },
    /// A SQL function that is missing or has another definition.
    Function {
        /// Its name.
        name: String,
    },
}

impl MigrationSet {
    /// The control database: leases, queues, orders.
    pub fn control() -> Self {
        let functions = FunctionSet { role: "control", files: CONTROL_FUNCTIONS };
        Self::new("control", CONTROL_MIGRATIONS, functions)
    }

    /// A shard of the ledger: accounts, events, locks, states.
    pub fn shard() -> Self {
        let functions = FunctionSet { role: "shard", files: SHARD_FUNCTIONS };
        Self::new("shard", SHARD_MIGRATIONS, functions)
    }

    /// The data manager's own database.
    pub fn data_manager() -> Self {
        let functions = FunctionSet { role: "data_manager", files: &[] };
        Self::new("data manager", DATA_MANAGER_MIGRATIONS, functions)
    }

    fn new(role: &'static str, files: &[MigrationFile], functions: FunctionSet) -> Self {
        let migrations = files.iter().map(|(version, description, sql)| {
            let sql = SqlStr::from_static(sql);
            Migration::new(*version, Cow::Borrowed(*description), MigrationType::Simple, sql, false)
        });
        let mut migrator = Migrator::with_migrations(migrations.collect());
        // A newer program's migrations are fine as long as `min_compatible` allows this one.
        migrator.set_ignore_missing(true);
        Self { role, migrator, functions }
    }

    /// The changes that `connection`'s database lacks: migrations, oldest first, then functions.
    pub async fn list_pending(
        &self,
        connection: &mut PgConnection,
    ) -> Result<Vec<PendingChange>, MigrationError> {
        let applied = self.read_applied(connection).await?;
        let functions = self.list_pending_functions(connection).await?;
        Ok(self.list_changes(&applied, functions.into_iter()))
    }

    /// Applies what is pending, in one transaction; safe to run from several places at once.
    pub async fn apply_pending(&self, connection: &mut PgConnection) -> Result<(), MigrationError> {
        let applied = self.read_applied(connection).await?;
        self.check_compatible(connection).await?;
        let functions = self.list_pending_functions(connection).await?;
        if self.list_changes(&applied, functions.into_iter()).is_empty() {
            return Ok(());
        }
        let mut transaction =
            begin_exclusively(connection).await.map_err(|cause| self.migration_error(cause))?;
        // Another program, perhaps of another version, may have migrated before the lock was taken.
        let applied = self.read_applied(&mut transaction).await?;
        self.check_compatible(&mut transaction).await?;
        self.apply_in_tx(transaction, &applied).await.map_err(|cause| self.migration_error(cause))
    }

    async fn apply_in_tx(
        &self,
        mut transaction: Transaction<'_, Postgres>,
        applied: &HashMap<i64, Vec<u8>>,
    ) -> Result<(), MigrateError> {
        for migration in self.migrator.iter() {
            if !applied.contains_key(&migration.version) {
                transaction.apply(MIGRATIONS_TABLE, migration).await?;
            }
        }
        self.functions.install_pending(&mut transaction).await?;
        Ok(transaction.commit().await?)
    }

    /// Brings an empty database to this program's version; any other must be there already.
    pub async fn apply_if_empty(
        &self,
        connection: &mut PgConnection,
    ) -> Result<(), MigrationError> {
        if self.read_applied(connection).await?.is_empty() {
            return self.apply_pending(connection).await;
        }
        self.check_version(connection).await
    }

    /// Checks, without changing anything, that this program may work on the database.
    pub async fn check_version(&self, connection: &mut PgConnection) -> Result<(), MigrationError> {
        let applied = self.read_applied(connection).await?;
        let needed = self.latest_version();
        if self.migrator.iter().any(|m| !applied.contains_key(&m.version)) {
            let found = applied.keys().copied().max().unwrap_or(0).min(needed);
            return Err(MigrationError::TooOld { role: self.role, found, needed });
        }
        self.check_compatible(connection).await?;
        let mut names = self.list_pending_functions(connection).await?;
        if names.is_empty() {
            return Ok(());
        }
        if names.len() > MAX_NAMED_FUNCTIONS {
            names.truncate(MAX_NAMED_FUNCTIONS);
            names.push("…");
        }
        Err(MigrationError::OldFunctions { role: self.role, functions: names.join(", ") })
    }

    fn list_changes(
        &self,
        applied: &HashMap<i64, Vec<u8>>,
        functions: impl Iterator<Item = &'static str>,
    ) -> Vec<PendingChange> {
        let missing = self.migrator.iter().filter(|m| !applied.contains_key(&m.version));
        let migrations = missing.map(|m| PendingChange::Migration {
            version: m.version,
            description: m.description.to_string(),
        });
        let functions = functions.map(|name| PendingChange::Function { name: name.to_owned() });
        migrations.chain(functions).collect()
    }

    async fn list_pending_functions(
        &self,
        connection: &mut PgConnection,
    ) -> Result<Vec<&'static str>, MigrationError> {
        let pending = self.functions.list_pending(connection).await;
        pending.map_err(|error| self.migration_error(error.into()))
    }

    /// Version and checksum of each applied migration. Those that this program has must be its own.
    async fn read_applied(
        &self,
        connection: &mut PgConnection,
    ) -> Result<HashMap<i64, Vec<u8>>, MigrationError> {
        let applied =
            list_applied(connection).await.map_err(|cause| self.migration_error(cause))?;
        for migration in self.migrator.iter() {
            let checksum = applied.get(&migration.version);
            if checksum.is_some_and(|checksum| checksum[..] != migration.checksum[..]) {
                let version = migration.version;
                return Err(MigrationError::Diverged { role: self.role, version });
            }
        }
        Ok(applied)
    }

    async fn check_compatible(&self, connection: &mut PgConnection) -> Result<(), MigrationError> {
        let min_compatible = read_min_compatible(connection).await;
        let min_compatible =
            min_compatible.map_err(|error| self.migration_error(error.into()))?.unwrap_or(0);
        let known = self.latest_version();
        if min_compatible > known {
            return Err(MigrationError::TooNew { role: self.role, min_compatible, known });
        }
        Ok(())
    }

    fn latest_version(&self) -> i64 {
        self.migrator.iter().map(|m| m.version).max().unwrap_or(0)
    }

    fn migration_error(&self, cause: MigrateError) -> MigrationError {
        MigrationError::Failed { role: self.role, cause }
    }
}

/// Begins a transaction that holds the schema's migration lock and sees what the previous holder
/// committed; creates the table of migrations.
async fn begin_exclusively(
    connection: &mut PgConnection,
) -> Result<Transaction<'_, Postgres>, MigrateError> {
    let mut transaction = connection.begin().await?;
    sqlx::query(
        "SELECT pg_advisory_xact_lock(hashtextextended('migrate/' || current_schema(), 0))",
    )
    .execute(&mut *transaction)
    .await?;
    // Locks the schema, and so processes the invalidations of the tables that another program has
    // created. A wait for an advisory lock does not: `to_regclass` would not find them.
    transaction.ensure_migrations_table(MIGRATIONS_TABLE).await?;
    Ok(transaction)
}

async fn list_applied(
    connection: &mut PgConnection,
) -> Result<HashMap<i64, Vec<u8>>, MigrateError> {
    let has_table: bool = sqlx::query_scalar("SELECT to_regclass('_sqlx_migrations') IS NOT NULL")
        .fetch_one(&mut *connection)
        .await?;
    if !has_table {
        return Ok(HashMap::new());
    }
    let applied = connection.list_applied_migrations(MIGRATIONS_TABLE).await?;
    Ok(applied.into_iter().map(|m| (m.version, m.checksum.into_owned())).collect())
}

async fn read_min_compatible(connection: &mut PgConnection) -> Result<Option<i64>, sqlx::Error> {
    let has_table: bool =
        sqlx::query_scalar("SELECT to_regclass('schema_compatibility') IS NOT NULL")
            .fetch_one(&mut *connection)
            .await?;
    if !has_table {
        return Ok(None);
    }
    sqlx::query_scalar("SELECT min_compatible FROM schema_compatibility")
        .fetch_optional(connection)
        .await
}
