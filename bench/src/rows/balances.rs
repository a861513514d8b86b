//! L4: balance at a random date of an account with years of events. Ten times the days
//! must not cost more.

use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use tokio::time::Instant;

use crate::figures::{Figure, ratio};
use crate::load::{Balances, Crowd, Http, Shape, Windows, fill, measure};
use crate::platform::{Platform, Terms};
use crate::report::{Chart, Series};
use crate::suite::{Outcome, Session};

use super::verify;

const DAY_US: i64 = 86_400_000_000;
/// Days of history per account: three years, a tenth and a hundredth of that.
const DAYS: [i64; 3] = [1095, 110, 11];
/// Maximum queries per second. The rate is lower if connections would be busy for more than the
/// fraction `BUSY` of the time: queueing must not be measured.
const RATE: f64 = 200.0;
const BUSY: f64 = 0.2;
/// Sequential queries that measure the latency for this.
const ALONE: u32 = 50;
/// Connections of the load.
const CONNECTIONS: usize = 4;

/// Row L4: latencies by days of history.
pub async fn at_a_random_date(session: &Session) -> anyhow::Result<Outcome> {
    let a_day = session.effort.size(2740, 100) as i64;
    let terms = Terms::usual()
        .with("--roles", "grpc,http,sequencer,aggregator")
        .with("--export-engine", "none");
    let mut platform = Platform::start(session, terms.without_manager()).await?;
    let mut written = 0;
    let mut loads = Vec::new();
    for (storage, days) in (1..).zip(DAYS) {
        let shape = history(storage, days, a_day);
        session.progress.note(&format!("writing {} events over {days} days", days * a_day));
        let events = (days * a_day).unsigned_abs();
        fill(session, platform.http, &shape, 0, events).await?;
        written += events;
        loads.push((days, shape));
    }
    catch_up_aggregates(session, &platform).await?;
    let verified = verify::events(&mut platform, written).await?;
    check_total(&platform, (DAYS[0] * a_day).unsigned_abs()).await?;
    let mut measured = Vec::new();
    for (days, shape) in &loads {
        session.progress.note(&format!("balances over {days} days"));
        measured.push((*days, ask(session, &platform, shape, *days).await?));
    }
    let mut outcome = outcome(&measured);
    outcome.unjudged = session.effort.quick;
    Ok(outcome.verified(verified).note(format!(
        "{a_day} events a day on each account; at most {RATE} questions a second; times at the server, from when each \
         question was due if its connection was still busy then"
    )))
}

fn history(storage: u64, days: i64, a_day: i64) -> Shape {
    let first = Utc::now() - chrono::Duration::days(days);
    Shape { first_account: storage, accounts: 1, with_info: 20, first, step_us: DAY_US / a_day }
}

/// Checks that the balance of the longest history matches the written events.
async fn check_total(platform: &Platform, written: u64) -> anyhow::Result<()> {
    let mut http = Http::connect(platform.http).await?;
    let now = Utc::now() + chrono::Duration::days(1);
    let at = now.to_rfc3339_opts(chrono::SecondsFormat::Micros, true);
    let balance = http.json(&format!("/v1/balances/storage_outflow?storage_id=1&at={at}")).await?;
    let total = balance["groups"][0]["balance"].as_str().unwrap_or_default();
    anyhow::ensure!(
        total == written.to_string(),
        "{written} events of 1 were written, the balance is {balance}"
    );
    Ok(())
}

async fn catch_up_aggregates(session: &Session, platform: &Platform) -> anyhow::Result<()> {
    session.progress.note("aggregating");
    let mut http = Http::connect(platform.http).await?;
    let deadline = Instant::now() + Duration::from_secs(300);
    loop {
        let shards = http.json("/v1/shards").await?;
        let behind = |shard: &serde_json::Value| shard["aggregated_seq"] != shard["events"];
        if !shards["shards"].as_array().into_iter().flatten().any(behind) {
            return Ok(());
        }
        anyhow::ensure!(Instant::now() < deadline, "not aggregated in time: {shards}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn ask(
    session: &Session,
    platform: &Platform,
    shape: &Shape,
    days: i64,
) -> anyhow::Result<Windows> {
    let mut load = Balances {
        port: platform.http,
        storage: shape.first_account,
        first: shape.first,
        seconds: days * 86_400,
        rate: 1,
        asked: Arc::default(),
        since: Instant::now(),
    };
    let alone = load.alone(ALONE).await?.as_secs_f64();
    load.rate = (BUSY / alone).clamp(1.0, RATE) as u64;
    session.progress.note(&format!(
        "{:.2} ms alone, {} questions a second",
        alone * 1000.0,
        load.rate
    ));
    load.since = Instant::now();
    let mut meter = platform.meter().await?;
    let crowd = Crowd::start(CONNECTIONS, 1, &load)?;
    let windows = measure(session, &crowd, &mut meter).await?;
    crowd.stop().await?;
    Ok(windows)
}

fn outcome(measured: &[(i64, Windows)]) -> Outcome {
    let [(_, years), (_, tenth), ..] = measured else { return Outcome::default() };
    let mut figures: Vec<Figure> = ["p50", "p99", "p99.9"]
        .into_iter()
        .zip([0.5, 0.99, 0.999])
        .map(|(name, part)| years.quantile(name, part))
        .collect();
    let tenth = tenth.quantile("p50 of a tenth of the days", 0.5);
    figures.push(ratio("a tenth of the days", figures[0].median, tenth.median));
    let point = |part: f64| {
        let of =
            |(days, windows): &(i64, Windows)| (*days as f64, windows.quantile("", part).median);
        let mut points: Vec<_> = measured.iter().map(of).collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        points
    };
    let series = [("p50", 0.5), ("p99", 0.99)];
    let series =
        series.map(|(name, part)| Series { name: name.to_owned(), points: point(part) }).into();
    let [title, x, y] = ["Balance at a random date", "days of history, equal events a day", "ms"]
        .map(str::to_owned);
    let chart = Chart { file: "balance-against-days".to_owned(), title, x, y, series };
    let costs = years.costs();
    let mut outcome = Outcome::of(figures).costing(costs);
    outcome.limits.push(tenth);
    outcome.charts.push(chart);
    outcome
}
