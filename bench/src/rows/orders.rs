//! O1 to O4: orders through `ProcessOrders`.

use crate::figures::{Figure, Unit};
use crate::limits;
use crate::load::{Crowd, OrderIds, Orders, Windows, measure};
use crate::platform::{Platform, Terms, peak_memory_mb};
use crate::suite::{Outcome, Session};

use super::verify;

/// Measurements of a load of orders.
pub struct Measured {
    /// Windows of the load.
    pub windows: Windows,
    /// Peak memory of the order service.
    pub memory: Figure,
    /// Description of the verification.
    pub verified: String,
}

/// Order processing only: ledger events are written, but not numbered, aggregated or exported.
pub fn only_orders() -> Terms {
    Terms::usual().with("--roles", "grpc,http,retry")
}

/// The same with one exchange call per order, which any data manager supports.
pub fn single() -> Terms {
    only_orders().with("--exchange", "single")
}

/// The same load with all roles in one process, as by default.
async fn with_every_role(
    session: &Session,
    together: usize,
    in_flight: usize,
) -> anyhow::Result<Measured> {
    session.progress.note("the same with every role");
    load(session, Terms::usual().with("--exchange", "single"), together, in_flight).await
}

/// Measures `in_flight` requests with `together` orders each on a new platform.
pub async fn load(
    session: &Session,
    terms: Terms,
    together: usize,
    in_flight: usize,
) -> anyhow::Result<Measured> {
    session.progress.note("starting both services");
    let mut platform = Platform::start(session, terms).await?;
    let ids = OrderIds::default();
    let load = Orders::new(platform.grpc, together, ids.clone());
    let mut meter = platform.meter().await?;
    let crowd = Crowd::start(in_flight, session.load_threads(), &load)?;
    let windows = measure(session, &crowd, &mut meter).await?;
    let acknowledged = crowd.stop().await?;
    session.progress.note("verifying");
    let verified = verify::orders(&mut platform, acknowledged, ids.last()).await?;
    let memory = peak_memory_mb(platform.order_service_pid());
    let memory = Figure::once("peak memory order_service", Unit::Megabytes, memory);
    Ok(Measured { windows, memory, verified })
}

impl Measured {
    /// Rate, latencies and costs.
    pub fn outcome(&self) -> Outcome {
        Outcome::of(self.windows.figures("orders"))
            .costing(self.windows.costs())
            .costing([self.memory.clone()])
            .verified(self.verified.clone())
    }
}

/// Row O1: 1000 orders per request, 4 in flight, single exchange.
pub async fn single_exchange(session: &Session) -> anyhow::Result<Outcome> {
    let measured = load(session, single(), 1000, 4).await?;
    // The reference of other rows.
    let _ = session.single_orders.set(measured.windows.rate("O1"));
    let limit = exchange(session).await?;
    let every = with_every_role(session, 1000, 4).await?;
    let mut outcome = measured.outcome().against("the exchange alone", limit);
    outcome.figures.push(every.windows.rate("orders with every role at work"));
    let costs = every.windows.costs().into_iter();
    Ok(outcome.costing(
        costs.map(|cost| Figure { name: format!("with every role: {}", cost.name), ..cost }),
    ))
}

/// Row O2: 1000 orders per request, 4 in flight, batch exchange.
pub async fn batch_exchange(session: &Session) -> anyhow::Result<Outcome> {
    let measured = load(session, only_orders(), 1000, 4).await?;
    let single = o1(session).await?;
    let mut outcome = measured.outcome().against("O1", single);
    outcome.limits.push(exchange(session).await?);
    Ok(outcome)
}

/// Row O3: 1 order per request, 64 in flight.
pub async fn one_a_request(session: &Session) -> anyhow::Result<Outcome> {
    let measured = load(session, single(), 1, 64).await?;
    let limit = limits::exchange::rate(session, 1, 64).await?;
    Ok(measured.outcome().against("the exchange alone", limit))
}

/// Row O4: 1 order per request, 1 in flight.
pub async fn one_at_a_time(session: &Session) -> anyhow::Result<Outcome> {
    let measured = load(session, single(), 1, 1).await?;
    let alone =
        limits::exchange::windows(session, 1, 1).await?.quantile("the exchange alone, p50", 0.5);
    let every = with_every_role(session, 1, 1).await?;
    let mut outcome = measured.outcome();
    outcome.figures.push(every.windows.quantile("p50 with every role at work", 0.5));
    outcome.limits = vec![alone, limits::disk::syncs(session).await?];
    Ok(outcome)
}

/// The rate of O1; measured now unless known.
pub async fn o1(session: &Session) -> anyhow::Result<Figure> {
    let measured = session.single_orders.get_or_try_init(|| async {
        session.progress.note("first: O1");
        Ok::<_, anyhow::Error>(load(session, single(), 1000, 4).await?.windows.rate("O1"))
    });
    measured.await.cloned()
}

async fn exchange(session: &Session) -> anyhow::Result<Figure> {
    session.exchange.get_or_try_init(|| limits::exchange::rate(session, 1000, 4)).await.cloned()
}
