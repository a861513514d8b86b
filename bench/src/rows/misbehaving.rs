//! O5: lost and duplicated callbacks. Orders use `ProcessOrderStream`, which answers each order
//! when it finishes: a lost callback must delay only its own order.

use std::time::Duration;

use proto::order_service::GetOrderRequest;
use tokio::time::Instant;

use crate::figures::{Figure, FigureUnit};
use crate::load::{
    LoadGenerator, LoadHttpClient, LoadWindows, OrderIdGenerator, OrderStreamLoad, SlowOrders,
    connect_order_service, measure_windows, read_event_count,
};
use crate::platform::{Platform, PlatformOptions};
use crate::suite::{BenchSession, RowOutcome};

use super::orders::{o1_rate, single_exchange_options};

/// Streams and unanswered orders per stream: as many orders in flight as in O1.
const STREAM_COUNT: usize = 4;
const MAX_IN_FLIGHT_PER_STREAM: usize = 1000;
/// Maximum number of sampled slow orders, approximately.
const MAX_SAMPLED_ORDERS: usize = 300;

struct OrderStreamMeasurement {
    windows: LoadWindows,
    slow_orders: Vec<i32>,
    delayed_by_others: usize,
    order_count: i32,
}

/// Row O5, compared with the same streams without losses and with O1.
pub async fn measure_lost_and_doubled(session: &BenchSession) -> anyhow::Result<RowOutcome> {
    let rate = "0.05";
    let misbehaving_options = single_exchange_options()
        .with_manager_flag("--drop-callback-rate", rate)
        .with_manager_flag("--duplicate-callback-rate", rate);
    let measured = measure_streams(session, misbehaving_options).await?;
    session.progress.show_step("the same without losses");
    let baseline = measure_streams(session, single_exchange_options()).await?;
    let good = baseline.windows.rate("the same streams, nothing lost");
    let mut figures = measured.windows.figures("good orders");
    figures.push(Figure::from_value(
        "orders that waited for a stranger",
        FigureUnit::Count,
        measured.delayed_by_others as f64,
    ));
    let slow = measured.slow_orders.len() as f64 / f64::from(measured.order_count.max(1)) * 100.0;
    figures.push(Figure::from_value(
        "orders whose own callback was lost",
        FigureUnit::PerCent,
        slow,
    ));
    let rate = figures.first().map_or(0.0, |figure| figure.median);
    let o1 = o1_rate(session).await?;
    let mut outcome =
        RowOutcome::from_figures(figures).with_limit("the same streams, nothing lost", good);
    outcome.figures.push(crate::figures::ratio_figure("O1", rate, o1.median));
    outcome.limits.push(o1);
    // More than none means that the machine was too busy for a meaningful result.
    outcome.limits.push(Figure::from_value(
        "as slow, nothing lost",
        FigureUnit::Count,
        baseline.slow_orders.len() as f64,
    ));
    let verified = format!(
        "{} orders answered = ledger events / 2; the slow ones sampled by GetOrder",
        measured.order_count
    );
    Ok(outcome.with_costs(measured.windows.costs()).with_verification(verified).with_note(
        "through ProcessOrderStream: in ProcessOrders a request is as slow as its slowest order, and of 1000 some are \
         always lost; the times are those of the orders whose callback came",
    ))
}

async fn measure_streams(
    session: &BenchSession,
    options: PlatformOptions,
) -> anyhow::Result<OrderStreamMeasurement> {
    let mut platform = Platform::start(session, options).await?;
    let seen = std::sync::Arc::<SlowOrders>::default();
    let stream_load = OrderStreamLoad {
        port: platform.grpc_port,
        max_in_flight: MAX_IN_FLIGHT_PER_STREAM,
        ids: OrderIdGenerator::default(),
        slow_orders: seen.clone(),
    };
    let mut meter = platform.start_meter().await?;
    let generator = LoadGenerator::start(STREAM_COUNT, session.load_thread_count(), &stream_load)?;
    let windows = measure_windows(session, &generator, &mut meter).await?;
    generator.stop().await?;
    session.progress.show_step("verifying");
    let order_count = stream_load.ids.last_id();
    wait_until_posted(&mut platform, order_count).await?;
    let slow_ids = seen.order_ids();
    let delayed_by_others = count_delayed_by_others(&platform, &slow_ids).await?;
    Ok(OrderStreamMeasurement { windows, slow_orders: slow_ids, delayed_by_others, order_count })
}

/// Waits until each order has posted its two events; orders that lost several callbacks are last.
async fn wait_until_posted(platform: &mut Platform, orders: i32) -> anyhow::Result<()> {
    let mut http = LoadHttpClient::connect(platform.http_port).await?;
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        platform.check_alive()?;
        let events = read_event_count(&mut http).await?;
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
async fn count_delayed_by_others(platform: &Platform, slow_ids: &[i32]) -> anyhow::Result<usize> {
    let mut client = connect_order_service(platform.grpc_port)?;
    let mut count = 0;
    for order_id in slow_ids.iter().step_by((slow_ids.len() / MAX_SAMPLED_ORDERS).max(1)) {
        let order = client.get_order(GetOrderRequest { order_id: *order_id }).await?.into_inner();
        count += usize::from(order.attempts < 2);
    }
    Ok(count)
}
