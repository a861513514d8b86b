//! S3: cost against size. Repeats the loads of L1 and O1 while the stored data grows.

use crate::figures::{Figure, FigureUnit};
use crate::load::{
    LedgerEventLoad, LedgerEventShape, LoadGenerator, LoadHttpClient, LoadWindows,
    OrderIdGenerator, OrderLoad, measure_windows, read_event_count, write_ledger_events,
};
use crate::platform::Platform;
use crate::report::{Chart, ChartSeries};
use crate::suite::{BenchSession, RowOutcome};

use super::orders::order_only_options;
use super::{verify, writes};

/// Numbers of stored events or orders at each measurement.
const STORED_SIZES: [usize; 4] = [0, 2_500_000, 5_000_000, 10_000_000];
const QUICK_STORED_SIZES: [usize; 3] = [0, 50_000, 100_000];

/// Measurements by stored size.
type WindowsBySize = Vec<(usize, LoadWindows)>;

/// Row S3: rates with data stored, compared with empty databases.
pub async fn measure_cost_by_size(session: &BenchSession) -> anyhow::Result<RowOutcome> {
    let sizes = if session.effort.is_quick { &QUICK_STORED_SIZES[..] } else { &STORED_SIZES[..] };
    let (event_windows, events_verified) = measure_events(session, sizes).await?;
    let (order_windows, orders_verified) = measure_orders(session, sizes).await?;
    let mut figures = end_figures("events", "L1 with nothing stored", &event_windows);
    figures.extend(end_figures("orders", "O1 with nothing stored", &order_windows));
    let mut outcome = RowOutcome::from_figures(figures);
    outcome.charts.push(build_chart(&event_windows, &order_windows));
    for (what, curve) in [("an event", &event_windows), ("an order", &order_windows)] {
        if let Some((_, last)) = curve.last() {
            let costs = last.costs().into_iter();
            outcome = outcome.with_costs(
                costs.map(|figure| Figure { name: format!("{} {what}", figure.name), ..figure }),
            );
        }
    }
    outcome.no_verdict = session.effort.is_quick;
    let max_size = sizes.last().copied().unwrap_or_default();
    Ok(outcome.with_verification(format!("{events_verified}; {orders_verified}")).with_note(format!(
        "{max_size} stored through the API on the very database that is measured; orders with their two events each, \
         stored with the batch exchange, measured one by one"
    )))
}

fn end_figures(name: &str, ratio_name: &str, curve: &WindowsBySize) -> Vec<Figure> {
    let (Some((_, first)), Some((_, last))) = (curve.first(), curve.last()) else {
        return Vec::new();
    };
    let full = last.rate(&format!("{name}, at the end"));
    let first = first.rate(&format!("{name}, nothing stored"));
    let ratio = crate::figures::ratio_figure(ratio_name, full.median, first.median);
    vec![full, first, ratio]
}

async fn measure_events(
    session: &BenchSession,
    sizes: &[usize],
) -> anyhow::Result<(WindowsBySize, String)> {
    let mut platform = Platform::start(session, writes::write_only_options()).await?;
    let shape = LedgerEventShape::standard();
    let mut http = LoadHttpClient::connect(platform.http_port).await?;
    let mut curve = WindowsBySize::new();
    let mut next = 0;
    for size in sizes {
        let stored = read_event_count(&mut http).await?;
        session.progress.show_step(&format!("filling up to {size} events"));
        let missing = (*size as u64).saturating_sub(stored);
        write_ledger_events(session, platform.http_port, &shape, next, next + missing).await?;
        let load = LedgerEventLoad::new(platform.http_port, 1000, shape.clone(), next + missing);
        let mut meter = platform.start_meter().await?;
        let generator = LoadGenerator::start(8, session.load_thread_count(), &load)?;
        curve.push((*size, measure_windows(session, &generator, &mut meter).await?));
        let written = generator.stop().await?;
        next += missing + written;
    }
    let verified = verify::verify_events(&mut platform, next).await?;
    Ok((curve, verified))
}

async fn measure_orders(
    session: &BenchSession,
    sizes: &[usize],
) -> anyhow::Result<(WindowsBySize, String)> {
    let options = |exchange: &str| order_only_options().with_flag("--exchange", exchange);
    let mut platform = Platform::start(session, options("single")).await?;
    let ids = OrderIdGenerator::default();
    let mut curve = WindowsBySize::new();
    let mut stored = 0;
    for size in sizes {
        session.progress.show_step(&format!("filling up to {size} orders"));
        if stored < *size as u64 {
            platform.restart(session, options("auto")).await?;
            stored += fill_orders(session, &platform, &ids, *size as u64 - stored).await?;
            platform.restart(session, options("single")).await?;
        }
        let load = OrderLoad::new(platform.grpc_port, 1000, ids.clone());
        let mut meter = platform.start_meter().await?;
        let generator = LoadGenerator::start(4, session.load_thread_count(), &load)?;
        curve.push((*size, measure_windows(session, &generator, &mut meter).await?));
        stored += generator.stop().await?;
    }
    let verified = verify::verify_orders(&mut platform, stored, ids.last_id()).await?;
    Ok((curve, verified))
}

/// Adds at least `missing` orders; returns the number added.
async fn fill_orders(
    session: &BenchSession,
    platform: &Platform,
    ids: &OrderIdGenerator,
    missing: u64,
) -> anyhow::Result<u64> {
    let load = OrderLoad::new(platform.grpc_port, 1000, ids.clone());
    let generator = LoadGenerator::start(4, session.load_thread_count(), &load)?;
    let (mut shown, mut done) = (0, 0);
    while done < missing {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        done = generator.counters().units()?;
        if done / 500_000 > shown {
            shown = done / 500_000;
            session.progress.show_step(&format!("{done} of {missing} orders"));
        }
    }
    generator.stop().await
}

fn build_chart(event_windows: &WindowsBySize, order_windows: &WindowsBySize) -> Chart {
    let series = |name: &str, curve: &WindowsBySize| {
        let point = |(size, windows): &(usize, LoadWindows)| {
            let rate = windows.rate("").median;
            (*size as f64, if rate > 0.0 { 1e6 / rate } else { 0.0 })
        };
        ChartSeries { name: name.to_owned(), points: curve.iter().map(point).collect() }
    };
    let [title, x, y] = ["Cost against size", "stored before", FigureUnit::Micros.suffix().trim()]
        .map(str::to_owned);
    let y = format!("{y} of time for one");
    let series = vec![series("event (L1)", event_windows), series("order (O1)", order_windows)];
    Chart { file: "cost-against-size".to_owned(), title, x, y, series }
}
