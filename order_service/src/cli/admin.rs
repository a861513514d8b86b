//! `migrate`, `status`, `config print`.

use chrono::Utc;
use clap::ArgMatches;
use queue::{Depth, depths};
use serde_json::json;
use settings::Resolved;
use store::Migrations;

use super::{Failure, output};
use crate::serve::{database, ledger};
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
        for Step { database, pending } in steps {
            let migrations: Vec<_> =
                pending.iter().map(|(version, name)| json!({"version": version, "name": name})).collect();
            output::line(json!({"database": database, "dry_run": dry_run, "migrations": migrations}));
        }
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
    // Before anything is changed.
    let map = ledger::shard_map(settings)?;
    let database = database::reach(settings).await?;
    let mut connection = database.pool.acquire().await?;
    let migrations = Migrations::control();
    let pending = migrations.pending(&mut connection).await?;
    if !dry_run {
        migrations.apply(&mut connection).await?;
        ledger::create_schemas(settings, &database).await?;
    }
    drop(connection);
    let mut steps = vec![Step { database: "control".to_owned(), pending }];
    let pools = ledger::reach(settings, &database, &map).await?;
    for (place, pool) in map.shards().iter().zip(pools) {
        let pending = ledger::migrate(&pool, dry_run).await?;
        steps.push(Step { database: format!("shard {}", place.name), pending });
        pool.close().await;
    }
    database.pool.close().await;
    Ok(steps)
}

/// A living process, as its lanes show it.
#[derive(sqlx::FromRow)]
struct Process {
    name: String,
    lanes: i64,
    renewed_seconds_ago: f64,
}

pub(super) async fn status(args: &ArgMatches, resolved: &Resolved) -> Result<(), Failure> {
    let database = database::open(&DatabaseSettings::new(resolved)?).await?;
    let processes: Vec<Process> = sqlx::query_as(
        "-- status
        SELECT owner::text AS name, count(*) AS lanes,
               greatest(extract(epoch FROM now() - max(expires_at) + interval '8 seconds'), 0)::float8 AS renewed_seconds_ago
        FROM leases WHERE expires_at > now() AND class LIKE 'lane/%' GROUP BY owner ORDER BY owner",
    )
    .fetch_all(&database.pool)
    .await
    .map_err(anyhow::Error::from)?;
    let queues = depths(&database.pool).await.map_err(anyhow::Error::from)?;
    database.pool.close().await;
    if output::is_json(args) {
        let process = |p: &Process| json!({"owner": p.name, "lanes": p.lanes, "renewed_seconds_ago": p.renewed_seconds_ago});
        let queue = |q: &Depth| {
            json!({"queue": q.queue, "due": q.due, "delayed": q.delayed, "dead": q.dead,
                "oldest_enqueued_at": q.oldest.map(|at| at.to_rfc3339()), "last_error": q.last_error})
        };
        let processes: Vec<_> = processes.iter().map(process).collect();
        output::line(json!({"processes": processes, "queues": queues.iter().map(queue).collect::<Vec<_>>()}));
        return Ok(());
    }
    let rows = processes.iter().map(|process| {
        [process.name.clone(), process.lanes.to_string(), format!("{:.1} s ago", process.renewed_seconds_ago)]
    });
    output::table(["process", "lanes", "alive"], rows);
    let age = |queue: &Depth| {
        let waited = queue.oldest.map(|at| (Utc::now() - at).num_seconds().max(0));
        waited.map_or_else(String::new, |seconds| format!("{seconds} s"))
    };
    let rows = queues.iter().map(|queue| {
        let [due, delayed, dead] = [queue.due, queue.delayed, queue.dead].map(|count| count.to_string());
        [queue.queue.clone(), due, delayed, dead, age(queue), queue.last_error.clone().unwrap_or_default()]
    });
    output::table(["queue", "due", "delayed", "dead", "oldest waits", "last error"], rows);
    Ok(())
}

pub(super) fn print_config(args: &ArgMatches, resolved: &Resolved) -> Result<(), Failure> {
    resolved.warnings().iter().for_each(|warning| eprintln!("warning: {warning}"));
    if output::is_json(args) {
        let setting = |(name, value): (&str, &settings::Value)| {
            (name.to_owned(), json!({"value": value.shown(), "source": value.from.to_string()}))
        };
        let settings: serde_json::Map<_, _> = resolved.all().map(setting).collect();
        output::line(serde_json::Value::Object(settings));
        return Ok(());
    }
    let rows = resolved
        .all()
        .map(|(name, value)| [name.to_owned(), value.shown().to_owned(), value.from.to_string()]);
    output::table(["setting", "value", "from"], rows);
    Ok(())
}
