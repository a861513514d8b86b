//! Commands `migrate` and `config print`.

use clap::ArgMatches;
use ledger::sharding::ShardDefinition;
use serde_json::json;
use settings::ResolvedSettings;
use store::{MigrationSet, PendingChange};

use super::{CommandFailure, output};
use crate::serve::database::{self, ControlDatabase, DatabaseAccess};
use crate::serve::ledger as shards;
use crate::settings::DatabaseSettings;

/// Pending or applied migrations of one database.
struct DatabaseMigration {
    database: String,
    pending: Vec<PendingChange>,
}

pub(super) async fn run_migrate_command(
    args: &ArgMatches,
    resolved: &ResolvedSettings,
) -> Result<(), CommandFailure> {
    let settings = DatabaseSettings::new(resolved)?;
    let dry_run = args.get_flag("dry-run");
    let steps = migrate_databases(&settings, dry_run).await?;
    if output::is_json_output(args) {
        let databases: Vec<_> = steps.iter().map(migration_json).collect();
        output::print_json(json!({"dry_run": dry_run, "databases": databases}));
        return Ok(());
    }
    let verb = if dry_run { "would apply" } else { "applied" };
    for step in steps {
        for line in step.describe() {
            output::print_line(format!("{}: {verb} {line}", step.database));
        }
        if step.pending.is_empty() {
            output::print_line(format!("{}: up to date", step.database));
        }
    }
    Ok(())
}

impl DatabaseMigration {
    /// A line for each migration, and one for all functions.
    fn describe(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let mut functions = 0;
        for change in &self.pending {
            match change {
                PendingChange::Migration { version, description } => {
                    lines.push(format!("{version} {description}"));
                }
                PendingChange::Function { .. } => functions += 1,
            }
        }
        if functions > 0 {
            lines.push(format!("{functions} SQL functions"));
        }
        lines
    }
}

fn migration_json(step: &DatabaseMigration) -> serde_json::Value {
    let (mut migrations, mut functions) = (Vec::new(), Vec::new());
    for change in &step.pending {
        match change {
            PendingChange::Migration { version, description } => {
                migrations.push(json!({"version": version, "name": description}));
            }
            PendingChange::Function { name } => functions.push(name),
        }
    }
    json!({"database": step.database, "migrations": migrations, "functions": functions})
}

async fn migrate_databases(
    settings: &DatabaseSettings,
    dry_run: bool,
) -> anyhow::Result<Vec<DatabaseMigration>> {
    let access = if dry_run { DatabaseAccess::Existing } else { DatabaseAccess::CreateMissing };
    // Fail early: on an invalid map before anything is created, on another shard count before
    // anything is changed.
    shards::load_configured_shard_map(settings)?;
    let database = database::connect_control_database(settings, access).await?;
    shards::load_shard_map_to_migrate(settings, &database, true).await?;
    let mut connection = database::take_migration_connection(&database.pool).await?;
    let migrations = MigrationSet::control();
    let pending = migrations.list_pending(&mut connection).await?;
    if !dry_run {
        migrations.apply_pending(&mut connection).await?;
    }
    drop(connection);
    let map = shards::load_shard_map_to_migrate(settings, &database, dry_run).await?;
    let mut steps = vec![DatabaseMigration { database: "control".to_owned(), pending }];
    for definition in map.shards() {
        let pending = migrate_shard(settings, &database, definition, dry_run).await?;
        steps.push(DatabaseMigration { database: format!("shard {}", definition.name), pending });
    }
    database.close().await;
    Ok(steps)
}

/// Pending migrations of a shard; applies them unless `dry_run`. In a dry run a missing database
/// lacks all migrations.
async fn migrate_shard(
    settings: &DatabaseSettings,
    database: &ControlDatabase,
    definition: &ShardDefinition,
    dry_run: bool,
) -> anyhow::Result<Vec<PendingChange>> {
    let pool = shards::connect_shard(settings, database, definition).await?;
    let pending = shards::migrate_shard(&pool, definition, dry_run).await?;
    store::close_pool(&pool).await;
    Ok(pending)
}

pub(super) fn print_config(
    args: &ArgMatches,
    resolved: &ResolvedSettings,
) -> Result<(), CommandFailure> {
    resolved
        .warnings()
        .iter()
        .for_each(|warning| output::print_remark(format!("warning: {warning}")));
    if output::is_json_output(args) {
        let mut settings = serde_json::Map::new();
        for (name, value) in resolved.iter_values() {
            settings.insert(
                name.to_owned(),
                json!({"value": value.masked_text(), "source": value.source.to_string()}),
            );
        }
        output::print_json(serde_json::Value::Object(settings));
        return Ok(());
    }
    let rows = resolved.iter_values().map(|(name, value)| {
        [name.to_owned(), value.masked_text().to_owned(), value.source.to_string()]
    });
    output::print_table(["setting", "value", "from"], rows);
    Ok(())
}
