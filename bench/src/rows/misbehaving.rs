//! O5: lost and duplicated callbacks. Orders use `ProcessOrderStream`, which answers each order
//! when it finishes: a lost callback must delay only its own order.

use std::time::Duration;

use proto::order_service::GetOrderRequest;
use tokio::time::Instant;

use crate::figures::{Figure, Unit};
use crate::load::{
    Crowd, Http, OrderIds, Streamed, Streams, Windows, client, event_count, measure,
};
use crate::platform::{Platform, Terms};
use crate::suite::{Outcome, Session};

use super::orders::{o1, single};

/// Streams and unanswered orders per stream: as many orders in flight as in O1.
const STREAMS: usize = 4;
const WINDOW: usize = 1000;
/// Maximum number of sampled slow orders, approximately.
const SAMPLE: usize = 300;

struct Measured {
    windows: Windows,
    slow: Vec<i32>,
    strangers: usize,
    all: i32,
}

/// Row O5, compared with the same streams without losses and with O1.
pub async fn lost_and_doubled(session: &Session) -> anyhow::Result<Outcome> {
    let rate = "0.05";
    let bad =
        single().manager("--drop-callback-rate", rate).manager("--duplicate-callback-rate", rate);
    let measured = load(session, bad).await?;
    session.progress.note("the same without losses");
    let peer = load(session, single()).await?;
    let good = peer.windows.rate("the same streams, nothing lost");
    let mut figures = measured.windows.figures("good orders");
    figures.push(Figure::once(
        "orders that waited for a stranger",
        Unit::Count,
        measured.strangers as f64,
    ));
    let slow = measured.slow.len() as f64 / f64::from(measured.all.max(1)) * 100.0;
    figures.push(Figure::once("orders whose own callback was lost", Unit::PerCent, slow));
    let rate = figures.first().map_or(0.0, |figure| figure.median);
    let o1 = o1(session).await?;
    let mut outcome = Outcome::of(figures).against("the same streams, nothing lost", good);
    outcome.figures.push(crate::figures::ratio("O1", rate, o1.median));
    outcome.limits.push(o1);
    // More than none means that the machine was too busy for a meaningful result.
    outcome.limits.push(Figure::once("as slow, nothing lost", Unit::Count, peer.slow.len() as f64));
    let verified = format!(
        "{} orders answered = ledger events / 2; the slow ones sampled by GetOrder",
        measured.all
    );
    Ok(outcome.costing(measured.windows.costs()).verified(verified).note(
        "through ProcessOrderStream: in ProcessOrders a request is as slow as its slowest order, and of 1000 some are \
         always lost; the times are those of the orders whose callback came",
    ))
}

async fn load(session: &Session, terms: Terms) -> anyhow::Result<Measured> {
    let mut platform = Platform::start(session, terms).await?;
    let seen = std::sync::Arc::<Streams>::default();
    let load = Streamed {
        port: platform.grpc,
        window: WINDOW,
        ids: OrderIds::default(),
        seen: seen.clone(),
    };
    let mut meter = platform.meter().await?;
    let crowd = Crowd::start(STREAMS, session.load_threads(), &load)?;
    let windows = measure(session, &crowd, &mut meter).await?;
    crowd.stop().await?;
    session.progress.note("verifying");
    let all = load.ids.last();
    finished(&mut platform, all).await?;
    let slow = seen.slow();
    let strangers = strangers(&platform, &slow).await?;
    Ok(Measured { windows, slow, strangers, all })
}

/// Waits until each order has posted its two events; orders that lost several callbacks are last.
async fn finished(platform: &mut Platform, orders: i32) -> anyhow::Result<()> {
    let mut http = Http::connect(platform.http).await?;
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        platform.check_alive()?;
        let events = event_count(&mut http).await?;
        if events == 2 * u64::from(orders.unsigned_abs()) {
            return Ok(());
        }
        anyhow::ensure!(
            Instant::now() < deadline,
            "{orders} orders were sent, {events} events are there"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Counts sampled slow orders that got their data at the first attempt: they were delayed
/// by another order's callback.
async fn strangers(platform: &Platform, slow: &[i32]) -> anyhow::Result<usize> {
    let mut client = client(platform.grpc)?;
    let mut strangers = 0;
    for order_id in slow.iter().step_by((slow.len() / SAMPLE).max(1)) {
        let order = client.get_order(GetOrderRequest { order_id: *order_id }).await?.into_inner();
        strangers += usize::from(order.attempts < 2);
    }
    Ok(strangers)
}
