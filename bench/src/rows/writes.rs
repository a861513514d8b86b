//! L1 to L3: events through `POST /v1/events`, with an order service that does nothing else.

use crate::figures::{Figure, FigureUnit};
use crate::limits;
use crate::load::{LedgerEventLoad, LedgerEventShape, LoadGenerator, LoadWindows, measure_windows};
use crate::platform::{Platform, PlatformOptions, peak_memory_mb};
use crate::suite::{BenchSession, RowOutcome};

use super::verify;

/// Only writing: events are not numbered, aggregated or exported.
pub fn write_only_options() -> PlatformOptions {
    PlatformOptions::standard().with_flag("--roles", "grpc,http").without_manager()
}

/// Measurements of a load of events.
pub struct WriteMeasurement {
    /// Windows of the load.
    pub windows: LoadWindows,
    /// CPU time, WAL and memory.
    pub costs: Vec<Figure>,
    /// Description of the verification.
    pub verification: String,
}

/// Measures calls with `events_per_call` events each over `connections` connections.
pub async fn measure_writes(
    session: &BenchSession,
    events_per_call: u64,
    connections: usize,
) -> anyhow::Result<WriteMeasurement> {
    session.progress.show_step("starting the order service");
    let mut platform = Platform::start(session, write_only_options()).await?;
    let write_load =
        LedgerEventLoad::new(platform.http_port, events_per_call, LedgerEventShape::standard(), 0);
    let mut meter = platform.start_meter().await?;
    let generator = LoadGenerator::start(connections, session.load_thread_count(), &write_load)?;
    let windows = measure_windows(session, &generator, &mut meter).await?;
    let acknowledged = generator.stop().await?;
    let verified = verify::verify_events(&mut platform, acknowledged).await?;
    let memory = peak_memory_mb(platform.order_service_pid());
    let mut costs = windows.costs();
    costs.push(Figure::from_value("peak memory order_service", FigureUnit::Megabytes, memory));
    Ok(WriteMeasurement { windows, costs, verification: verified })
}

async fn measure_row(
    session: &BenchSession,
    events_per_call: u64,
    connections: usize,
) -> anyhow::Result<RowOutcome> {
    let measured = measure_writes(session, events_per_call, connections).await?;
    if (events_per_call, connections) == (1000, 8) {
        // The reference of L5.
        let _ = session.l1_rate_per_cpu.set(measured.windows.per_cpu_second("L1"));
    }
    let limit =
        limits::ledger::measure_write_rate(session, events_per_call as usize, connections).await?;
    let outcome =
        RowOutcome::from_figures(measured.windows.figures("events")).with_costs(measured.costs);
    Ok(outcome
        .with_verification(measured.verification)
        .with_limit("the same rows without HTTP", limit))
}

/// Row L1: 1000 events per call, 8 connections.
pub async fn measure_calls_of_1000(session: &BenchSession) -> anyhow::Result<RowOutcome> {
    Ok(measure_row(session, 1000, 8).await?.with_note(
        "the limit sends the same rows to the shards' function write_events, each call to one shard, from this program",
    ))
}

/// Row L2: 100 events per call, 16 connections.
pub async fn measure_calls_of_100(session: &BenchSession) -> anyhow::Result<RowOutcome> {
    measure_row(session, 100, 16).await
}

/// Row L3: 1 event per call, 64 connections.
pub async fn measure_calls_of_1(session: &BenchSession) -> anyhow::Result<RowOutcome> {
    let mut outcome = measure_row(session, 1, 64).await?;
    outcome.limits.push(limits::disk::measure_sync_rate(session).await?);
    Ok(outcome)
}
