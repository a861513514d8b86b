//! L5: the load of L1 while sequencer, aggregator and exporter run.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::figures::{Figure, Unit};
use crate::load::{Crowd, EventLoad, Http, Shape, Windows, measure};
use crate::platform::{Meter, Platform, Terms};
use crate::suite::{Outcome, Session};

use super::{verify, writes};

/// Timeout for catching up.
const PATIENCE: Duration = Duration::from_secs(300);

/// Row L5, compared with the CPU time of L1.
pub async fn everything_beside(session: &Session) -> anyhow::Result<Outcome> {
    let terms =
        Terms::usual().with("--roles", "grpc,http,sequencer,aggregator,exporter").without_manager();
    let mut platform = Platform::start(session, terms).await?;
    let load = EventLoad::new(platform.http, 1000, Shape::usual(), 0);
    let mut meter = platform.meter().await?;
    let before = meter.read().await?;
    let crowd = Crowd::start(8, session.load_threads(), &load)?;
    let (windows, lags) = watched(session, &platform, &crowd, &mut meter).await?;
    let acknowledged = crowd.stop().await?;
    let caught_up = catch_up(session, &platform).await?;
    let used = meter.read().await?.since(&before);
    let verified = verify::events(&mut platform, acknowledged).await?;
    drop(platform);
    let per_cpu = acknowledged as f64 / used.platform_cpu().max(0.01);
    let limit = l1(session).await?;
    let figures = vec![
        Figure::once(
            "events written, numbered, aggregated and exported",
            Unit::PerCpuSecond,
            per_cpu,
        ),
        windows.rate("events"),
        Figure::of("sequence lag", Unit::Seconds, &lags),
        Figure::once(
            "longest sequence lag",
            Unit::Seconds,
            lags.iter().copied().fold(0.0, f64::max),
        ),
        Figure::once("caught up after", Unit::Seconds, caught_up.as_secs_f64()),
    ];
    let outcome = Outcome::of(figures).costing(windows.costs()).verified(verified);
    Ok(outcome.against("L1", limit).note(
        "processor time from the load's begin until everything had caught up; the lag of a shard is its events without \
         a number by its rate, sampled five times a second",
    ))
}

/// Events of L1 per second of CPU time; measured now unless known.
async fn l1(session: &Session) -> anyhow::Result<Figure> {
    let measured = session.l1_per_cpu.get_or_try_init(|| async {
        session.progress.note("first: L1");
        Ok::<_, anyhow::Error>(writes::load(session, 1000, 8).await?.windows.per_cpu_second("L1"))
    });
    measured.await.cloned()
}

/// Measures the load while sampling the lag.
async fn watched(
    session: &Session,
    platform: &Platform,
    crowd: &Crowd,
    meter: &mut Meter,
) -> anyhow::Result<(Windows, Vec<f64>)> {
    let mut http = Http::connect(platform.http).await?;
    let mut lags = Vec::new();
    let sampling = async {
        tokio::time::sleep(session.effort.warm_up).await;
        let mut earlier = (Instant::now(), shards(&mut http).await?);
        loop {
            tokio::time::sleep(Duration::from_millis(200)).await;
            let now = (Instant::now(), shards(&mut http).await?);
            let seconds = now.0.duration_since(earlier.0).as_secs_f64();
            lags.extend(
                now.1.iter().zip(&earlier.1).map(|(now, before)| lag(now, before, seconds)),
            );
            earlier = now;
        }
    };
    let windows = tokio::select! {
        windows = measure(session, crowd, meter) => windows?,
        failed = sampling => return failed,
    };
    Ok((windows, lags))
}

/// Progress of a shard's roles, in events or sequence numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Progress {
    events: u64,
    numbered: u64,
    aggregated: u64,
    exported: u64,
}

/// Estimated time until an event gets its sequence number: unnumbered events divided
/// by the event rate.
fn lag(now: &Progress, before: &Progress, seconds: f64) -> f64 {
    let rate = now.events.saturating_sub(before.events) as f64 / seconds;
    if rate > 0.0 { now.events.saturating_sub(now.numbered) as f64 / rate } else { 0.0 }
}

async fn shards(http: &mut Http) -> anyhow::Result<Vec<Progress>> {
    let shards = http.json("/v1/shards").await?;
    let progress = |shard: &Value| {
        let number = |name: &str| shard[name].as_u64();
        Some(Progress {
            events: number("events")?,
            numbered: number("last_seq")?,
            aggregated: number("aggregated_seq")?,
            exported: number("exported_seq")?,
        })
    };
    let shards = shards["shards"].as_array().into_iter().flatten().map(progress);
    shards
        .collect::<Option<_>>()
        .ok_or_else(|| anyhow::anyhow!("a shard does not say how far it has come"))
}

/// Waits until all events are numbered, aggregated and exported; returns the time it took.
pub async fn catch_up(session: &Session, platform: &Platform) -> anyhow::Result<Duration> {
    session.progress.note("catching up");
    let mut http = Http::connect(platform.http).await?;
    let begun = Instant::now();
    loop {
        let shards = shards(&mut http).await?;
        let behind = |shard: &Progress| {
            shard.numbered.min(shard.aggregated).min(shard.exported) < shard.events
        };
        if !shards.iter().any(behind) {
            return Ok(begun.elapsed());
        }
        anyhow::ensure!(begun.elapsed() < PATIENCE, "not caught up after {PATIENCE:?}: {shards:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lag_is_what_waits_by_the_rate() {
        let before = Progress { events: 1000, numbered: 900, aggregated: 0, exported: 0 };
        let now = Progress { events: 3000, numbered: 2800, ..before };
        assert!(lag(&now, &before, 0.5) == 0.05);
        assert!(lag(&before, &before, 0.5) == 0.0);
    }
}
