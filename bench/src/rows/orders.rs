//! O1 to O4: orders through `ProcessOrders`.

use crate::figures::{Figure, FigureUnit};
use crate::limits;
use crate::load::{LoadGenerator, LoadWindows, OrderIdGenerator, OrderLoad, measure_windows};
use crate::platform::{Platform, PlatformOptions, peak_memory_mb};
use crate::suite::{BenchSession, RowOutcome};

use super::verify;

/// Measurements of a load of orders.
pub struct OrderMeasurement {
    /// Windows of the load.
    pub windows: LoadWindows,
    /// Peak memory of the order service.
    pub peak_memory: Figure,
    /// Description of the verification.
    pub verification: String,
}

/// Order processing only: ledger events are written, but not numbered, aggregated or exported.
pub fn order_only_options() -> PlatformOptions {
    PlatformOptions::standard().with_flag("--roles", "grpc,http,retry")
}

/// The same with one exchange call per order, which any data manager supports.
pub fn single_exchange_options() -> PlatformOptions {
    order_only_options().with_flag("--exchange", "single")
}

/// The same load with all roles in one process, as by default.
async fn measure_with_every_role(
    session: &BenchSession,
    orders_per_request: usize,
    in_flight: usize,
) -> anyhow::Result<OrderMeasurement> {
    session.progress.show_step("the same with every role");
    measure_orders(
        session,
        PlatformOptions::standard().with_flag("--exchange", "single"),
        orders_per_request,
        in_flight,
    )
    .await
}

/// Measures `in_flight` requests with `orders_per_request` orders each on a new platform.
pub async fn measure_orders(
    session: &BenchSession,
    options: PlatformOptions,
    orders_per_request: usize,
    in_flight: usize,
) -> anyhow::Result<OrderMeasurement> {
    session.progress.show_step("starting both services");
    let mut platform = Platform::start(session, options).await?;
    let ids = OrderIdGenerator::default();
    let order_load = OrderLoad::new(platform.grpc_port, orders_per_request, ids.clone());
    let mut meter = platform.start_meter().await?;
    let generator = LoadGenerator::start(in_flight, session.load_thread_count(), &order_load)?;
    let windows = measure_windows(session, &generator, &mut meter).await?;
    let acknowledged = generator.stop().await?;
    session.progress.show_step("verifying");
    let verified = verify::verify_orders(&mut platform, acknowledged, ids.last_id()).await?;
    let memory = peak_memory_mb(platform.order_service_pid());
    let memory = Figure::from_value("peak memory order_service", FigureUnit::Megabytes, memory);
    Ok(OrderMeasurement { windows, peak_memory: memory, verification: verified })
}

impl OrderMeasurement {
    /// Rate, latencies and costs.
    pub fn to_outcome(&self) -> RowOutcome {
        RowOutcome::from_figures(self.windows.figures("orders"))
            .with_costs(self.windows.costs())
            .with_costs([self.peak_memory.clone()])
            .with_verification(self.verification.clone())
    }
}

/// Row O1: 1000 orders per request, 4 in flight, single exchange.
pub async fn measure_single_exchange(session: &BenchSession) -> anyhow::Result<RowOutcome> {
    let measured = measure_orders(session, single_exchange_options(), 1000, 4).await?;
    // The reference of other rows.
    let _ = session.o1_rate.set(measured.windows.rate("O1"));
    let limit = exchange_rate(session).await?;
    let all_roles = measure_with_every_role(session, 1000, 4).await?;
    let mut outcome = measured.to_outcome().with_limit("the exchange alone", limit);
    outcome.figures.push(all_roles.windows.rate("orders with every role at work"));
    let costs = all_roles.windows.costs().into_iter();
    Ok(outcome.with_costs(
        costs.map(|cost| Figure { name: format!("with every role: {}", cost.name), ..cost }),
    ))
}

/// Row O2: 1000 orders per request, 4 in flight, batch exchange.
pub async fn measure_batch_exchange(session: &BenchSession) -> anyhow::Result<RowOutcome> {
    let measured = measure_orders(session, order_only_options(), 1000, 4).await?;
    let reference = o1_rate(session).await?;
    let mut outcome = measured.to_outcome().with_limit("O1", reference);
    outcome.limits.push(exchange_rate(session).await?);
    Ok(outcome)
}

/// Row O3: 1 order per request, 64 in flight.
pub async fn measure_one_per_request(session: &BenchSession) -> anyhow::Result<RowOutcome> {
    let measured = measure_orders(session, single_exchange_options(), 1, 64).await?;
    let limit = limits::exchange::measure_exchange_rate(session, 1, 64).await?;
    Ok(measured.to_outcome().with_limit("the exchange alone", limit))
}

/// Row O4: 1 order per request, 1 in flight.
pub async fn measure_one_at_a_time(session: &BenchSession) -> anyhow::Result<RowOutcome> {
    let measured = measure_orders(session, single_exchange_options(), 1, 1).await?;
    let alone = limits::exchange::measure_exchange_windows(session, 1, 1)
        .await?
        .quantile("the exchange alone, p50", 0.5);
    let all_roles = measure_with_every_role(session, 1, 1).await?;
    let mut outcome = measured.to_outcome();
    outcome.figures.push(all_roles.windows.quantile("p50 with every role at work", 0.5));
    outcome.limits = vec![alone, limits::disk::measure_sync_rate(session).await?];
    Ok(outcome)
}

/// The rate of O1; measured now unless known.
pub async fn o1_rate(session: &BenchSession) -> anyhow::Result<Figure> {
    let measured = session.o1_rate.get_or_try_init(|| async {
        session.progress.show_step("first: O1");
        Ok::<_, anyhow::Error>(
            measure_orders(session, single_exchange_options(), 1000, 4).await?.windows.rate("O1"),
        )
    });
    measured.await.cloned()
}

async fn exchange_rate(session: &BenchSession) -> anyhow::Result<Figure> {
    session
        .exchange_rate
        .get_or_try_init(|| limits::exchange::measure_exchange_rate(session, 1000, 4))
        .await
        .cloned()
}
