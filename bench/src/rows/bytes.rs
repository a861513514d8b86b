//! L6: bytes of WAL and disk per event, a fifth of the events with an `info`.

use crate::figures::{Figure, FigureUnit};
use crate::load::{LedgerEventLoad, LedgerEventShape, LoadGenerator};
use crate::platform::{PgStatsConnection, Platform, PlatformOptions, folder_bytes};
use crate::suite::{BenchSession, RowOutcome};

use super::background::wait_until_caught_up;
use super::verify;

struct BytesPerEvent {
    wal_bytes: f64,
    disk_bytes: f64,
    export_bytes: f64,
    verification: String,
}

/// Row L6, without and with aggregates and export.
pub async fn measure_bytes_per_event(session: &BenchSession) -> anyhow::Result<RowOutcome> {
    let events = session.effort.pick_size(1_000_000, 100_000) as u64;
    let roles =
        |roles: &str| PlatformOptions::standard().with_flag("--roles", roles).without_manager();
    let written = measure_event_bytes(session, roles("grpc,http,sequencer"), events, false).await?;
    let all = measure_event_bytes(
        session,
        roles("grpc,http,sequencer,aggregator,exporter"),
        events,
        true,
    )
    .await?;
    let bytes = |name: &str, value: f64| Figure::from_value(name, FigureUnit::Bytes, value);
    let mut outcome = RowOutcome::from_figures(vec![
        bytes("WAL an event", written.wal_bytes),
        bytes("disk an event", written.disk_bytes),
        bytes("WAL with aggregates and export", all.wal_bytes),
        bytes("disk with aggregates", all.disk_bytes),
        bytes("exported file", all.export_bytes),
    ]);
    outcome.no_verdict = session.effort.is_quick;
    Ok(outcome.with_verification(written.verification).with_note(format!(
        "{events} events on 1000 accounts, written and numbered, from a checkpoint on (whole pages included); disk is \
         the growth of the shards' databases"
    )))
}

async fn measure_event_bytes(
    session: &BenchSession,
    options: PlatformOptions,
    events: u64,
    waits_for_roles: bool,
) -> anyhow::Result<BytesPerEvent> {
    session.progress.show_step(&format!("{events} events"));
    let mut platform = Platform::start(session, options).await?;
    let mut database = PgStatsConnection::connect(&platform.data_dir()).await?;
    database.checkpoint().await?;
    let before = (database.wal_bytes().await?, database.database_bytes("control").await?);
    let load = LedgerEventLoad::new(platform.http_port, 1000, LedgerEventShape::standard(), 0);
    let generator = LoadGenerator::start(8, session.load_thread_count(), &load)?;
    while generator.counters().units()? < events {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let written = generator.stop().await?;
    if waits_for_roles {
        wait_until_caught_up(session, &platform).await?;
    }
    let wal = database.wal_bytes().await? - before.0;
    let disk = database.database_bytes("control").await? - before.1;
    let export = folder_bytes(&platform.data_dir().join("export")) as f64;
    let verified = verify::verify_events(&mut platform, written).await?;
    let each = |bytes: f64| bytes / written as f64;
    Ok(BytesPerEvent {
        wal_bytes: each(wal),
        disk_bytes: each(disk),
        export_bytes: each(export),
        verification: verified,
    })
}
