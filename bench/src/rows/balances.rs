//! L4: balance at a random date of an account with years of events. Ten times the days
//! must not cost more.

use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use tokio::time::Instant;

use crate::figures::{Figure, ratio_figure};
use crate::load::{
    BalanceLoad, LedgerEventShape, LoadGenerator, LoadHttpClient, LoadWindows, measure_windows,
    write_ledger_events,
};
use crate::platform::{Platform, PlatformOptions};
use crate::report::{Chart, ChartSeries};
use crate::suite::{BenchSession, RowOutcome};

use super::verify;

const DAY_US: i64 = 86_400_000_000;
/// Days of history per account: three years, a tenth and a hundredth of that.
const HISTORY_DAYS: [i64; 3] = [1095, 110, 11];
/// Maximum queries per second. The rate is lower if connections would be busy for more than the
/// fraction `MAX_BUSY_FRACTION` of the time: queueing must not be measured.
const MAX_QUERY_RATE: f64 = 200.0;
const MAX_BUSY_FRACTION: f64 = 0.2;
/// Sequential queries that measure the latency for this.
const UNLOADED_QUERY_COUNT: u32 = 50;
/// Connections of the load.
const LOAD_CONNECTION_COUNT: usize = 4;

/// Row L4: latencies by days of history.
pub async fn measure_random_dates(session: &BenchSession) -> anyhow::Result<RowOutcome> {
    let events_per_day = session.effort.pick_size(2740, 100) as i64;
    let options = PlatformOptions::standard()
        .with_flag("--roles", "grpc,http,sequencer,aggregator")
        .with_flag("--export-engine", "none");
    let mut platform = Platform::start(session, options.without_manager()).await?;
    let mut written = 0;
    let mut loads = Vec::new();
    for (storage, days) in (1..).zip(HISTORY_DAYS) {
        let shape = history_shape(storage, days, events_per_day);
        session
            .progress
            .show_step(&format!("writing {} events over {days} days", days * events_per_day));
        let events = (days * events_per_day).unsigned_abs();
        write_ledger_events(session, platform.http_port, &shape, 0, events).await?;
        written += events;
        loads.push((days, shape));
    }
    wait_until_aggregated(session, &platform).await?;
    let verified = verify::verify_events(&mut platform, written).await?;
    check_balance(&platform, (HISTORY_DAYS[0] * events_per_day).unsigned_abs()).await?;
    let mut measured = Vec::new();
    for (days, shape) in &loads {
        session.progress.show_step(&format!("balances over {days} days"));
        measured.push((*days, measure_balance_queries(session, &platform, shape, *days).await?));
    }
    let mut row_outcome = build_outcome(&measured);
    row_outcome.no_verdict = session.effort.is_quick;
    Ok(row_outcome.with_verification(verified).with_note(format!(
        "{events_per_day} events a day on each account; at most {MAX_QUERY_RATE} questions a second; times at the server, from when each \
         question was due if its connection was still busy then"
    )))
}

fn history_shape(storage_id: u64, days: i64, events_per_day: i64) -> LedgerEventShape {
    let first = Utc::now() - chrono::Duration::days(days);
    LedgerEventShape {
        first_storage_id: storage_id,
        storage_count: 1,
        info_percent: 20,
        first_time: first,
        step_us: DAY_US / events_per_day,
    }
}

/// Checks that the balance of the longest history matches the written events.
async fn check_balance(platform: &Platform, written: u64) -> anyhow::Result<()> {
    let mut http = LoadHttpClient::connect(platform.http_port).await?;
    let now = Utc::now() + chrono::Duration::days(1);
    let at = now.to_rfc3339_opts(chrono::SecondsFormat::Micros, true);
    let balance =
        http.get_json(&format!("/v1/balances/storage_outflow?storage_id=1&at={at}")).await?;
    let total = balance["groups"][0]["balance"].as_str().unwrap_or_default();
    anyhow::ensure!(
        total == written.to_string(),
        "{written} events of 1 were written, the balance is {balance}"
    );
    Ok(())
}

async fn wait_until_aggregated(session: &BenchSession, platform: &Platform) -> anyhow::Result<()> {
    session.progress.show_step("aggregating");
    let mut http = LoadHttpClient::connect(platform.http_port).await?;
    let deadline = Instant::now() + Duration::from_secs(300);
    loop {
        let shards = http.get_json("/v1/shards").await?;
        let is_behind = |shard: &serde_json::Value| shard["aggregated_seq"] != shard["events"];
        if !shards["shards"].as_array().into_iter().flatten().any(is_behind) {
            return Ok(());
        }
        anyhow::ensure!(Instant::now() < deadline, "not aggregated in time: {shards}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn measure_balance_queries(
    session: &BenchSession,
    platform: &Platform,
    shape: &LedgerEventShape,
    days: i64,
) -> anyhow::Result<LoadWindows> {
    let mut load = BalanceLoad {
        port: platform.http_port,
        storage_id: shape.first_storage_id,
        first_date: shape.first_time,
        range_seconds: days * 86_400,
        rate: 1,
        query_count: Arc::default(),
        started_at: Instant::now(),
    };
    let unloaded_latency = load.measure_unloaded_latency(UNLOADED_QUERY_COUNT).await?.as_secs_f64();
    load.rate = (MAX_BUSY_FRACTION / unloaded_latency).clamp(1.0, MAX_QUERY_RATE) as u64;
    session.progress.show_step(&format!(
        "{:.2} ms alone, {} questions a second",
        unloaded_latency * 1000.0,
        load.rate
    ));
    load.started_at = Instant::now();
    let mut meter = platform.start_meter().await?;
    let generator = LoadGenerator::start(LOAD_CONNECTION_COUNT, 1, &load)?;
    let windows = measure_windows(session, &generator, &mut meter).await?;
    generator.stop().await?;
    Ok(windows)
}

fn build_outcome(measured: &[(i64, LoadWindows)]) -> RowOutcome {
    let [(_, years), (_, tenth), ..] = measured else { return RowOutcome::default() };
    let mut figures: Vec<Figure> = ["p50", "p99", "p99.9"]
        .into_iter()
        .zip([0.5, 0.99, 0.999])
        .map(|(name, part)| years.quantile(name, part))
        .collect();
    let tenth = tenth.quantile("p50 of a tenth of the days", 0.5);
    figures.push(ratio_figure("a tenth of the days", figures[0].median, tenth.median));
    let quantile_points = |fraction: f64| {
        let of = |(days, windows): &(i64, LoadWindows)| {
            (*days as f64, windows.quantile("", fraction).median)
        };
        let mut points: Vec<_> = measured.iter().map(of).collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        points
    };
    let series = [("p50", 0.5), ("p99", 0.99)];
    let series = series
        .map(|(name, part)| ChartSeries { name: name.to_owned(), points: quantile_points(part) })
        .into();
    let [title, x, y] = ["Balance at a random date", "days of history, equal events a day", "ms"]
        .map(str::to_owned);
    let chart = Chart { file: "balance-against-days".to_owned(), title, x, y, series };
    let costs = years.costs();
    let mut row_outcome = RowOutcome::from_figures(figures).with_costs(costs);
    row_outcome.limits.push(tenth);
    row_outcome.charts.push(chart);
    row_outcome
}
