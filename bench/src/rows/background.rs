//! L5: the load of L1 while sequencer, aggregator and exporter run.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::figures::{Figure, FigureUnit};
use crate::load::{
    LedgerEventLoad, LedgerEventShape, LoadGenerator, LoadHttpClient, LoadWindows, measure_windows,
};
use crate::platform::{Platform, PlatformOptions, ResourceMeter};
use crate::suite::{BenchSession, RowOutcome};

use super::{verify, writes};

/// Timeout for catching up.
const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(300);

/// Row L5, compared with the CPU time of L1.
pub async fn measure_with_background_roles(session: &BenchSession) -> anyhow::Result<RowOutcome> {
    let options = PlatformOptions::standard()
        .with_flag("--roles", "grpc,http,sequencer,aggregator,exporter")
        .without_manager();
    let mut platform = Platform::start(session, options).await?;
    let load = LedgerEventLoad::new(platform.http_port, 1000, LedgerEventShape::standard(), 0);
    let mut meter = platform.start_meter().await?;
    let before = meter.read_totals().await?;
    let generator = LoadGenerator::start(8, session.load_thread_count(), &load)?;
    let (windows, lags) = measure_with_lags(session, &platform, &generator, &mut meter).await?;
    let acknowledged = generator.stop().await?;
    let caught_up = wait_until_caught_up(session, &platform).await?;
    let used = meter.read_totals().await?.usage_since(&before);
    let verified = verify::verify_events(&mut platform, acknowledged).await?;
    drop(platform);
    let per_cpu = acknowledged as f64 / used.platform_cpu_seconds().max(0.01);
    let limit = l1_rate_per_cpu(session).await?;
    let figures = vec![
        Figure::from_value(
            "events written, numbered, aggregated and exported",
            FigureUnit::PerCpuSecond,
            per_cpu,
        ),
        windows.rate("events"),
        Figure::from_values("sequence lag", FigureUnit::Seconds, &lags),
        Figure::from_value(
            "longest sequence lag",
            FigureUnit::Seconds,
            lags.iter().copied().fold(0.0, f64::max),
        ),
        Figure::from_value("caught up after", FigureUnit::Seconds, caught_up.as_secs_f64()),
    ];
    let outcome =
        RowOutcome::from_figures(figures).with_costs(windows.costs()).with_verification(verified);
    Ok(outcome.with_limit("L1", limit).with_note(
        "processor time from the load's begin until everything had caught up; the lag of a shard is its events without \
         a number by its rate, sampled five times a second",
    ))
}

/// Events of L1 per second of CPU time; measured now unless known.
async fn l1_rate_per_cpu(session: &BenchSession) -> anyhow::Result<Figure> {
    let measured = session.l1_rate_per_cpu.get_or_try_init(|| async {
        session.progress.show_step("first: L1");
        Ok::<_, anyhow::Error>(
            writes::measure_writes(session, 1000, 8).await?.windows.per_cpu_second("L1"),
        )
    });
    measured.await.cloned()
}

/// Measures the load while sampling the lag.
async fn measure_with_lags(
    session: &BenchSession,
    platform: &Platform,
    generator: &LoadGenerator,
    meter: &mut ResourceMeter,
) -> anyhow::Result<(LoadWindows, Vec<f64>)> {
    let mut http = LoadHttpClient::connect(platform.http_port).await?;
    let mut lags = Vec::new();
    let sampling = async {
        tokio::time::sleep(session.effort.warm_up).await;
        let mut earlier = (Instant::now(), read_shard_progress(&mut http).await?);
        loop {
            tokio::time::sleep(Duration::from_millis(200)).await;
            let now = (Instant::now(), read_shard_progress(&mut http).await?);
            let seconds = now.0.duration_since(earlier.0).as_secs_f64();
            lags.extend(
                now.1
                    .iter()
                    .zip(&earlier.1)
                    .map(|(now, before)| sequence_lag(now, before, seconds)),
            );
            earlier = now;
        }
    };
    let windows = tokio::select! {
        windows = measure_windows(session, generator, meter) => windows?,
        failed = sampling => return failed,
    };
    Ok((windows, lags))
}

/// Progress of a shard's roles, in events or sequence numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
struct ShardProgress {
    events: u64,
    last_seq: u64,
    aggregated_seq: u64,
    exported_seq: u64,
}

/// Estimated time until an event gets its sequence number: unnumbered events divided
/// by the event rate.
fn sequence_lag(now: &ShardProgress, before: &ShardProgress, seconds: f64) -> f64 {
    let rate = now.events.saturating_sub(before.events) as f64 / seconds;
    if rate > 0.0 { now.events.saturating_sub(now.last_seq) as f64 / rate } else { 0.0 }
}

async fn read_shard_progress(http: &mut LoadHttpClient) -> anyhow::Result<Vec<ShardProgress>> {
    let body = http.get_json("/v1/shards").await?;
    let progress = |shard: &Value| {
        let number = |name: &str| shard[name].as_u64();
        Some(ShardProgress {
            events: number("events")?,
            last_seq: number("last_seq")?,
            aggregated_seq: number("aggregated_seq")?,
            exported_seq: number("exported_seq")?,
        })
    };
    let parsed = body["shards"].as_array().into_iter().flatten().map(progress);
    parsed
        .collect::<Option<_>>()
        .ok_or_else(|| anyhow::anyhow!("a shard does not say how far it has come"))
}

/// Waits until all events are numbered, aggregated and exported; returns the time it took.
pub async fn wait_until_caught_up(
    session: &BenchSession,
    platform: &Platform,
) -> anyhow::Result<Duration> {
    session.progress.show_step("catching up");
    let mut http = LoadHttpClient::connect(platform.http_port).await?;
    let begun = Instant::now();
    loop {
        let progress = read_shard_progress(&mut http).await?;
        let is_behind = |shard: &ShardProgress| {
            shard.last_seq.min(shard.aggregated_seq).min(shard.exported_seq) < shard.events
        };
        if !progress.iter().any(is_behind) {
            return Ok(begun.elapsed());
        }
        anyhow::ensure!(
            begun.elapsed() < CATCH_UP_TIMEOUT,
            "not caught up after {CATCH_UP_TIMEOUT:?}: {progress:?}"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lag_is_what_waits_by_the_rate() {
        let before =
            ShardProgress { events: 1000, last_seq: 900, aggregated_seq: 0, exported_seq: 0 };
        let now = ShardProgress { events: 3000, last_seq: 2800, ..before };
        assert!(sequence_lag(&now, &before, 0.5) == 0.05);
        assert!(sequence_lag(&before, &before, 0.5) == 0.0);
    }
}
