//! S2: a million orders in the retry queue during an outage of the data manager, and
//! their processing after it.

use std::time::{Duration, Instant};

use proto::order_service::ProcessOrdersRequest;
use sqlx::{Connection as _, PgConnection};

use crate::figures::{Figure, FigureUnit};
use crate::load::{LoadHttpClient, connect_order_service, new_order_request, read_event_count};
use crate::platform::{Platform, connect_options, peak_memory_mb, proportional_memory_mb};
use crate::suite::{BenchSession, RowOutcome};

use super::{orders, verify};

/// Orders per request and requests in flight: the service's limit of concurrent orders.
const ORDERS_PER_REQUEST: i32 = 10_000;
const MAX_REQUESTS_IN_FLIGHT: i32 = 8;
const DRAIN_TIMEOUT: Duration = Duration::from_secs(900);

/// Row S2: memory with a full retry queue, and its drain rate.
pub async fn measure_full_queue(session: &BenchSession) -> anyhow::Result<RowOutcome> {
    let count = session.effort.pick_size(1_000_000, 50_000) as i32;
    let mut platform = Platform::start(session, orders::single_exchange_options()).await?;
    platform.stop_manager();
    session.progress.show_step(&format!("{count} orders while the data manager is away"));
    send_orders(&platform, count).await?;
    let job_count = count_waiting_jobs(&platform).await?;
    anyhow::ensure!(
        job_count == i64::from(count),
        "{count} orders were accepted, {job_count} are in the queue"
    );
    let service = platform.order_service_pid();
    let memory_when_full = proportional_memory_mb(service);
    session.progress.show_step("draining");
    platform.start_manager(session).await?;
    let drained = wait_until_drained(session, &mut platform, count).await?;
    let verified = verify::verify_orders(&mut platform, count.unsigned_abs().into(), count).await?;
    let memory = peak_memory_mb(service);
    drop(platform);
    let o1 = orders::o1_rate(session).await?;
    let rate = f64::from(count) / drained.as_secs_f64();
    let mut outcome = RowOutcome::from_figures(vec![
        Figure::from_value("drained", FigureUnit::PerSecond, rate),
        Figure::from_value("peak memory of the service", FigureUnit::Megabytes, memory),
        Figure::from_value("memory with the queue full", FigureUnit::Megabytes, memory_when_full),
    ])
    .with_limit("O1", o1);
    outcome.no_verdict = session.effort.is_quick;
    Ok(outcome
        .with_verification(verified)
        .with_note("drained: from the data manager's start to the last order's ledger events"))
}

/// Sends orders with ids from 1; all are accepted, none can be processed yet.
async fn send_orders(platform: &Platform, count: i32) -> anyhow::Result<()> {
    let requests = (0..count).step_by(ORDERS_PER_REQUEST as usize);
    let client = connect_order_service(platform.grpc_port)?;
    let send = |first: i32| {
        let mut client = client.clone();
        let orders =
            (first + 1..=count.min(first + ORDERS_PER_REQUEST)).map(new_order_request).collect();
        async move {
            let mut request = tonic::Request::new(ProcessOrdersRequest { orders });
            request.set_timeout(Duration::from_secs(5));
            let answer = client.process_orders(request).await?.into_inner();
            let processed =
                answer.processed_orders.iter().filter(|result| result.is_processed).count();
            anyhow::ensure!(processed == 0, "orders were processed without a data manager");
            anyhow::Ok(())
        }
    };
    use futures::{StreamExt as _, TryStreamExt as _};
    futures::stream::iter(requests.map(send))
        .buffer_unordered(MAX_REQUESTS_IN_FLIGHT as usize)
        .try_collect::<()>()
        .await
}

async fn count_waiting_jobs(platform: &Platform) -> anyhow::Result<i64> {
    let mut control =
        PgConnection::connect_with(&connect_options(&platform.data_dir(), "control")).await?;
    let query = sqlx::query_scalar("SELECT count(*) FROM jobs WHERE queue = 'orders'");
    Ok(query.fetch_one(&mut control).await?)
}

/// Waits until each order has posted its two events.
async fn wait_until_drained(
    session: &BenchSession,
    platform: &mut Platform,
    count: i32,
) -> anyhow::Result<Duration> {
    let mut http = LoadHttpClient::connect(platform.http_port).await?;
    let begun = Instant::now();
    let mut shown_at = Instant::now();
    loop {
        platform.check_alive()?;
        let done = read_event_count(&mut http).await? / 2;
        if done == u64::from(count.unsigned_abs()) {
            return Ok(begun.elapsed());
        }
        if shown_at.elapsed() > Duration::from_secs(5) {
            session.progress.show_step(&format!("{done} of {count} drained"));
            shown_at = Instant::now();
        }
        anyhow::ensure!(
            begun.elapsed() < DRAIN_TIMEOUT,
            "{done} of {count} orders are done after {DRAIN_TIMEOUT:?}"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
