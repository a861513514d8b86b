//! `migrate`, `config print`.

use clap::ArgMatches;
use ledger::sharding::ShardPlace;
use serde_json::json;
use settings::Resolved;
use store::Migrations;

use super::{Failure, output};
use crate::serve::database::{self, Access, Database};
use crate::serve::ledger as shards;
use crate::settings::DatabaseSettings;

/// One database of the service, and what it lacks.
struct Step {
    database: String,
    pending: Vec<(i64, String)>,
}

pub(super) async fn migrate(args: &ArgMatches, resolved: &Resolved) -> Result<(), Failure> {
    let settings = DatabaseSettings::new(resolved)?;
    let dry_run = args.get_flag("dry-run");
    let steps = migrate_all(&settings, dry_run).await?;
    if output::is_json(args) {
        let migration = |(version, name): &(i64, String)| json!({"version": version, "name": name});
        let step = |Step { database, pending }: &Step| json!({"database": database, "migrations": pending.iter().map(migration).collect::<Vec<_>>()});
        let databases: Vec<_> = steps.iter().map(step).collect();
        output::json(json!({"dry_run": dry_run, "databases": databases}));
        return Ok(());
    }
    let verb = if dry_run { "would apply" } else { "applied" };
    for Step { database, pending } in steps {
        for (version, name) in &pending {
            output::line(format!("{database}: {verb} {version} {name}"));
        }
        if pending.is_empty() {
            output::line(format!("{database}: up to date"));
        }
    }
    Ok(())
}

async fn migrate_all(settings: &DatabaseSettings, dry_run: bool) -> anyhow::Result<Vec<Step>> {
    let access = if dry_run { Access::Existing } else { Access::CreateMissing };
    // A wrong map is told before anything is made, and another number of shards before anything is changed.
    shards::configured_map(settings)?;
    let database = database::reach(settings, access).await?;
    shards::shard_map_to_migrate(settings, &database, true).await?;
    let mut connection = database::migrating(&database.pool).await?;
    let migrations = Migrations::control();
    let pending = migrations.pending(&mut connection).await?;
    if !dry_run {
        migrations.apply(&mut connection).await?;
    }
    drop(connection);
    let map = shards::shard_map_to_migrate(settings, &database, dry_run).await?;
    let mut steps = vec![Step { database: "control".to_owned(), pending }];
    for place in map.shards() {
        let pending = migrate_shard(settings, &database, place, dry_run).await?;
        steps.push(Step { database: format!("shard {}", place.name), pending });
    }
    database.close().await;
    Ok(steps)
}

/// What a shard lacks, and, unless it is a dry run, brings it there. To a dry run a database that is not there lacks everything.
async fn migrate_shard(
    settings: &DatabaseSettings,
    database: &Database,
    place: &ShardPlace,
    dry_run: bool,
) -> anyhow::Result<Vec<(i64, String)>> {
    if dry_run && !shards::is_there(settings, database, place).await? {
        return Ok(Migrations::shard().all());
    }
    let pool = shards::reach_one(settings, database, place).await?;
    let pending = shards::migrate(&pool, place, dry_run).await?;
    store::close(&pool).await;
    Ok(pending)
}

pub(super) fn print_config(args: &ArgMatches, resolved: &Resolved) -> Result<(), Failure> {
    resolved.warnings().iter().for_each(|warning| output::remark(format!("warning: {warning}")));
    if output::is_json(args) {
        let setting = |(name, value): (&str, &settings::Value)| {
            (name.to_owned(), json!({"value": value.shown(), "source": value.from.to_string()}))
        };
        let settings: serde_json::Map<_, _> = resolved.all().map(setting).collect();
        output::json(serde_json::Value::Object(settings));
        return Ok(());
    }
    let rows = resolved
        .all()
        .map(|(name, value)| [name.to_owned(), value.shown().to_owned(), value.from.to_string()]);
    output::table(["setting", "value", "from"], rows);
    Ok(())
}
