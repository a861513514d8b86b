//! O1 to O4: orders through `ProcessOrders`.

use crate::figures::{Figure, Unit};
use crate::limits;
use crate::load::{Crowd, OrderIds, Orders, Windows, measure};
use crate::platform::{Platform, Terms, peak_memory_mb};
use crate::suite::{Outcome, Session};

use super::verify;

/// What a load of orders has shown.
pub struct Measured {
    /// Its windows.
    pub windows: Windows,
    /// Peak memory of the order service.
    pub memory: Figure,
    /// How it was verified.
    pub verified: String,
}

/// One exchange call for each order, as with any data manager.
pub fn single() -> Terms {
    Terms::usual().with("--exchange", "single")
}

/// Measures `in_flight` requests with `together` orders each on a fresh platform.
pub async fn load(
    session: &Session,
    terms: Terms,
    together: usize,
    in_flight: usize,
) -> anyhow::Result<Measured> {
    session.progress.note("starting both services");
    let mut platform = Platform::start(session, terms).await?;
    let load = Orders { port: platform.grpc, together, ids: OrderIds::default() };
    let mut meter = platform.meter().await?;
    let crowd = Crowd::start(in_flight, session.load_threads(), &load)?;
    let windows = measure(session, &crowd, &mut meter).await?;
    let acknowledged = crowd.stop().await?;
    session.progress.note("verifying");
    let verified = verify::orders(&mut platform, acknowledged, load.ids.last()).await?;
    let memory = peak_memory_mb(platform.order_service_pid());
    let memory = Figure::once("peak memory order_service", Unit::Megabytes, memory);
    Ok(Measured { windows, memory, verified })
}

impl Measured {
    /// Rate, latencies, costs.
    pub fn outcome(&self) -> Outcome {
        Outcome::of(self.windows.figures("orders"))
            .costing(self.windows.costs())
            .costing([self.memory.clone()])
            .verified(self.verified.clone())
    }
}

/// O1.
pub async fn single_exchange(session: &Session) -> anyhow::Result<Outcome> {
    let measured = load(session, single(), 1000, 4).await?;
    // Other rows are measured against it.
    let _ = session.single_orders.set(measured.windows.rate("O1"));
    let limit = session.exchange.get_or_try_init(|| limits::exchange::rate(session, 1000, 4)).await?;
    Ok(measured.outcome().against("the exchange alone", limit.clone()))
}
