//! E1: ingesting events with many action configs for other events.

use crate::figures::{Figure, ratio_figure};
use crate::load::{
    EventIngestLoad, LOAD_EVENT_NAME, LoadGenerator, LoadWindows, create_action_configs,
    measure_windows,
};
use crate::platform::{Platform, connect_options, open_pool};
use crate::suite::{BenchSession, RowOutcome};

use super::writes::write_only_options;

/// Number of configs of the reference, and of the measurement.
const BASELINE_CONFIG_COUNT: u64 = 10;
const FULL_CONFIG_COUNT: usize = 10_000;
const QUICK_CONFIG_COUNT: usize = 1000;

/// Measurements with one number of configs.
struct IngestMeasurement {
    single_windows: LoadWindows,
    batch_windows: LoadWindows,
    acknowledged_count: u64,
}

/// Row E1: ingestion rates with many configs, compared with few.
pub async fn measure_unrelated_configs(session: &BenchSession) -> anyhow::Result<RowOutcome> {
    let many = session.effort.pick_size(FULL_CONFIG_COUNT, QUICK_CONFIG_COUNT) as u64;
    let mut platform = Platform::start(session, write_only_options()).await?;
    create_action_configs(session, platform.http_port, 0, BASELINE_CONFIG_COUNT).await?;
    let few = measure_ingest(session, &platform).await?;
    session.progress.show_step(&format!("creating {many} configs"));
    create_action_configs(session, platform.http_port, BASELINE_CONFIG_COUNT, many).await?;
    let full = measure_ingest(session, &platform).await?;
    let acknowledged = few.acknowledged_count + full.acknowledged_count;
    let verified = verify_events(&mut platform, acknowledged).await?;
    let mut figures = full.single_windows.figures("events one by one");
    figures.push(full.batch_windows.rate("events in batches"));
    let compared =
        |name: &str, full: Figure, few: Figure| ratio_figure(name, full.median, few.median);
    figures.push(compared(
        "10 configs, one by one",
        full.single_windows.rate(""),
        few.single_windows.rate(""),
    ));
    figures.push(compared(
        "10 configs, in batches",
        full.batch_windows.rate(""),
        few.batch_windows.rate(""),
    ));
    let mut outcome = RowOutcome::from_figures(figures)
        .with_costs(full.single_windows.costs())
        .with_verification(verified);
    outcome.no_verdict = session.effort.is_quick;
    Ok(outcome.with_note(format!(
        "{many} configs, each about events of a name of its own; one by one from 32 connections, in batches of 1000 from 4"
    )))
}

async fn measure_ingest(
    session: &BenchSession,
    platform: &Platform,
) -> anyhow::Result<IngestMeasurement> {
    let mut acknowledged = 0;
    let mut measured = Vec::new();
    for (together, connections) in [(1, 32), (1000, 4)] {
        let mut meter = platform.start_meter().await?;
        let ingest_load = EventIngestLoad::new(platform.http_port, together);
        let generator =
            LoadGenerator::start(connections, session.load_thread_count(), &ingest_load)?;
        measured.push(measure_windows(session, &generator, &mut meter).await?);
        acknowledged += generator.stop().await?;
    }
    match <[LoadWindows; 2]>::try_from(measured) {
        Ok([singles, batches]) => Ok(IngestMeasurement {
            single_windows: singles,
            batch_windows: batches,
            acknowledged_count: acknowledged,
        }),
        Err(_) => anyhow::bail!("two loads give two measurements"),
    }
}

/// Checks that each acknowledged event is stored once and none has started a task.
async fn verify_events(platform: &mut Platform, acknowledged: u64) -> anyhow::Result<String> {
    platform.check_alive()?;
    let control = open_pool(connect_options(&platform.data_dir(), "control"), 1).await?;
    let (events, tasks): (i64, i64) =
        sqlx::query_as("SELECT (SELECT count(*) FROM events WHERE name = $1), (SELECT count(*) FROM tasks WHERE event_id IS NOT NULL)")
            .bind(LOAD_EVENT_NAME)
            .fetch_one(&control)
            .await?;
    control.close().await;
    anyhow::ensure!(
        events.unsigned_abs() == acknowledged && tasks == 0,
        "{acknowledged} events were acknowledged, {events} are there, and they have started {tasks} tasks"
    );
    Ok(format!("{acknowledged} events acknowledged = {events} rows; no task started"))
}
