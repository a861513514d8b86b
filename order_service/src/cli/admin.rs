//! Commands `migrate` and `config print`.

use audit::{AuditAction, AuditActor, AuditDifference, AuditEntry};
use clap::{Args, Subcommand};
use ledger::sharding::ShardDefinition;
use serde_json::json;
use settings::ResolvedSettings;
use store::{MigrationSet, PendingChange};

use super::definition::{LEDGER_DATABASE_SETTING_NAMES, all_examples, first_example, setting_args};
use super::output::OutputArgs;
use super::{CommandFailure, missing_subcommand, output};
use order_service::serve::database::{self, ControlDatabase, DatabaseAccess};
use order_service::serve::ledger as shards;
use order_service::settings::DatabaseSettings;

const MIGRATE_EXAMPLES: &str = "order_service migrate --database-url postgres://…";
const PRINT_EXAMPLES: &str = "order_service config print";

/// Arguments of `migrate`.
#[derive(Debug, Args)]
#[command(
    about = "Brings the database to this version",
    args = setting_args(&LEDGER_DATABASE_SETTING_NAMES),
    after_help = first_example(MIGRATE_EXAMPLES),
    after_long_help = all_examples(MIGRATE_EXAMPLES)
)]
#[group(skip)]
pub(super) struct MigrateArgs {
    #[arg(long, help = "Only list what would be done")]
    dry_run: bool,
    #[command(flatten)]
    output: OutputArgs,
}

/// Commands `config …`.
#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    Print(PrintConfigArgs),
}

/// Arguments of `config print`.
#[derive(Debug, Args)]
#[command(
    about = "The effective settings and where each came from",
    args = setting_args(&["config"]),
    after_help = first_example(PRINT_EXAMPLES),
    after_long_help = all_examples(PRINT_EXAMPLES)
)]
#[group(skip)]
pub(super) struct PrintConfigArgs {
    #[command(flatten)]
    output: OutputArgs,
}

/// Pending or applied migrations of one database.
struct DatabaseMigration {
    database: String,
    pending: Vec<PendingChange>,
}

pub(super) async fn run_migrate_command(
    args: &MigrateArgs,
    resolved: &ResolvedSettings,
) -> Result<(), CommandFailure> {
    let settings = DatabaseSettings::new(resolved)?;
    let dry_run = args.dry_run;
    let steps = migrate_databases(&settings, dry_run).await?;
    if args.output.is_json() {
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
    if !dry_run {
        record_migration(&database, "control", &pending).await?;
    }
    let map = shards::load_shard_map_to_migrate(settings, &database, dry_run).await?;
    let mut steps = vec![DatabaseMigration { database: "control".to_owned(), pending }];
    for definition in map.shards() {
        let pending = migrate_shard(settings, &database, definition, dry_run).await?;
        steps.push(DatabaseMigration { database: format!("shard {}", definition.name), pending });
    }
    database.close().await;
    Ok(steps)
}

/// Records what was applied to a database, after it was: the control database's own migrations make
/// the table.
async fn record_migration(
    database: &ControlDatabase,
    name: &str,
    applied: &[PendingChange],
) -> anyhow::Result<()> {
    if applied.is_empty() {
        return Ok(());
    }
    let (mut migrations, mut functions) = (Vec::new(), 0);
    for change in applied {
        match change {
            PendingChange::Migration { version, description } => {
                migrations.push(format!("{version} {description}"));
            }
            PendingChange::Function { .. } => functions += 1,
        }
    }
    let difference = AuditDifference::default()
        .with_fact("version", env!("CARGO_PKG_VERSION"))
        .with_fact("migrations", migrations)
        .with_fact("functions", functions);
    let entry = AuditEntry::new(AuditAction::DatabaseMigrate, "database", name, &difference);
    store::transaction("record_migration", (entry, AuditActor::of_command()))
        .run(&database.pool, |connection, (entry, actor)| {
            Box::pin(audit::record_entry(connection, actor, entry))
        })
        .await?;
    Ok(())
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
    if !dry_run {
        record_migration(database, &format!("shard {}", definition.name), &pending).await?;
    }
    Ok(pending)
}

pub(super) fn run_config_command(
    command: Option<ConfigCommand>,
    resolved: &ResolvedSettings,
) -> Result<(), CommandFailure> {
    match command.ok_or_else(|| missing_subcommand("config"))? {
        ConfigCommand::Print(args) => print_config(&args, resolved),
    }
    Ok(())
}

fn print_config(args: &PrintConfigArgs, resolved: &ResolvedSettings) {
    resolved
        .warnings()
        .iter()
        .for_each(|warning| output::print_remark(format!("warning: {warning}")));
    if args.output.is_json() {
        let mut settings = serde_json::Map::new();
        for (name, value) in resolved.iter_values() {
            settings.insert(
                name.to_owned(),
                json!({"value": value.masked_text(), "source": value.source.to_string()}),
            );
        }
        output::print_json(serde_json::Value::Object(settings));
        return;
    }
    let rows = resolved.iter_values().map(|(name, value)| {
        [name.to_owned(), value.masked_text().to_owned(), value.source.to_string()]
    });
    output::print_table(["setting", "value", "from"], rows);
}
