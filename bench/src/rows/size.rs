//! S3: cost against size. Repeats the loads of L1 and O1 while the stored data grows.

use crate::figures::{Figure, Unit};
use crate::load::{
    Crowd, EventLoad, Http, OrderIds, Orders, Shape, Windows, event_count, fill, measure,
};
use crate::platform::Platform;
use crate::report::{Chart, Series};
use crate::suite::{Outcome, Session};

use super::orders::only_orders;
use super::{verify, writes};

/// Numbers of stored events or orders at each measurement.
const SIZES: [usize; 4] = [0, 2_500_000, 5_000_000, 10_000_000];
const QUICK: [usize; 3] = [0, 50_000, 100_000];

/// Measurements by stored size.
type Curve = Vec<(usize, Windows)>;

/// Row S3: rates with data stored, compared with empty databases.
pub async fn cost(session: &Session) -> anyhow::Result<Outcome> {
    let sizes = if session.effort.quick { &QUICK[..] } else { &SIZES[..] };
    let (events, events_verified) = events(session, sizes).await?;
    let (orders, orders_verified) = orders(session, sizes).await?;
    let mut figures = ends("events", "L1 with nothing stored", &events);
    figures.extend(ends("orders", "O1 with nothing stored", &orders));
    let mut outcome = Outcome::of(figures);
    outcome.charts.push(chart(&events, &orders));
    for (what, curve) in [("an event", &events), ("an order", &orders)] {
        if let Some((_, last)) = curve.last() {
            let costs = last.costs().into_iter();
            outcome = outcome.costing(
                costs.map(|cost| Figure { name: format!("{} {what}", cost.name), ..cost }),
            );
        }
    }
    outcome.unjudged = session.effort.quick;
    let most = sizes.last().copied().unwrap_or_default();
    Ok(outcome.verified(format!("{events_verified}; {orders_verified}")).note(format!(
        "{most} stored through the API on the very database that is measured; orders with their two events each, \
         stored with the batch exchange, measured one by one"
    )))
}

fn ends(name: &str, empty: &str, curve: &Curve) -> Vec<Figure> {
    let (Some((_, first)), Some((_, last))) = (curve.first(), curve.last()) else {
        return Vec::new();
    };
    let full = last.rate(&format!("{name}, at the end"));
    let first = first.rate(&format!("{name}, nothing stored"));
    let ratio = crate::figures::ratio(empty, full.median, first.median);
    vec![full, first, ratio]
}

async fn events(session: &Session, sizes: &[usize]) -> anyhow::Result<(Curve, String)> {
    let mut platform = Platform::start(session, writes::only_writing()).await?;
    let shape = Shape::usual();
    let mut http = Http::connect(platform.http).await?;
    let mut curve = Curve::new();
    let mut next = 0;
    for size in sizes {
        let stored = event_count(&mut http).await?;
        session.progress.note(&format!("filling up to {size} events"));
        let missing = (*size as u64).saturating_sub(stored);
        fill(session, platform.http, &shape, next, next + missing).await?;
        let load = EventLoad::new(platform.http, 1000, shape.clone(), next + missing);
        let mut meter = platform.meter().await?;
        let crowd = Crowd::start(8, session.load_threads(), &load)?;
        curve.push((*size, measure(session, &crowd, &mut meter).await?));
        let written = crowd.stop().await?;
        next += missing + written;
    }
    let verified = verify::events(&mut platform, next).await?;
    Ok((curve, verified))
}

async fn orders(session: &Session, sizes: &[usize]) -> anyhow::Result<(Curve, String)> {
    let terms = |exchange: &str| only_orders().with("--exchange", exchange);
    let mut platform = Platform::start(session, terms("single")).await?;
    let ids = OrderIds::default();
    let mut curve = Curve::new();
    let mut stored = 0;
    for size in sizes {
        session.progress.note(&format!("filling up to {size} orders"));
        if stored < *size as u64 {
            platform.restart(session, terms("auto")).await?;
            stored += fill_orders(session, &platform, &ids, *size as u64 - stored).await?;
            platform.restart(session, terms("single")).await?;
        }
        let load = Orders::new(platform.grpc, 1000, ids.clone());
        let mut meter = platform.meter().await?;
        let crowd = Crowd::start(4, session.load_threads(), &load)?;
        curve.push((*size, measure(session, &crowd, &mut meter).await?));
        stored += crowd.stop().await?;
    }
    let verified = verify::orders(&mut platform, stored, ids.last()).await?;
    Ok((curve, verified))
}

/// Adds at least `missing` orders; returns the number added.
async fn fill_orders(
    session: &Session,
    platform: &Platform,
    ids: &OrderIds,
    missing: u64,
) -> anyhow::Result<u64> {
    let load = Orders::new(platform.grpc, 1000, ids.clone());
    let crowd = Crowd::start(4, session.load_threads(), &load)?;
    let (mut said, mut done) = (0, 0);
    while done < missing {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        done = crowd.tally().units()?;
        if done / 500_000 > said {
            said = done / 500_000;
            session.progress.note(&format!("{done} of {missing} orders"));
        }
    }
    crowd.stop().await
}

fn chart(events: &Curve, orders: &Curve) -> Chart {
    let series = |name: &str, curve: &Curve| {
        let cost = |(size, windows): &(usize, Windows)| {
            let rate = windows.rate("").median;
            (*size as f64, if rate > 0.0 { 1e6 / rate } else { 0.0 })
        };
        Series { name: name.to_owned(), points: curve.iter().map(cost).collect() }
    };
    let [title, x, y] =
        ["Cost against size", "stored before", Unit::Micros.text().trim()].map(str::to_owned);
    let y = format!("{y} of time for one");
    let series = vec![series("event (L1)", events), series("order (O1)", orders)];
    Chart { file: "cost-against-size".to_owned(), title, x, y, series }
}
