//! S2: a million orders in the retry queue during an outage of the data manager, and
//! their processing after it.

use std::time::{Duration, Instant};

use proto::order_service::ProcessOrdersRequest;
use sqlx::{Connection as _, PgConnection};

use crate::figures::{Figure, Unit};
use crate::load::{Http, client, event_count, order};
use crate::platform::{Platform, options, peak_memory_mb, proportional_memory_mb};
use crate::suite::{Outcome, Session};

use super::{orders, verify};

/// Orders per request and requests in flight: the service's limit of concurrent orders.
const TOGETHER: i32 = 10_000;
const IN_FLIGHT: i32 = 8;
const PATIENCE: Duration = Duration::from_secs(900);

/// Row S2: memory with a full retry queue, and its drain rate.
pub async fn full(session: &Session) -> anyhow::Result<Outcome> {
    let count = session.effort.size(1_000_000, 50_000) as i32;
    let mut platform = Platform::start(session, orders::single()).await?;
    platform.stop_manager();
    session.progress.note(&format!("{count} orders while the data manager is away"));
    accept(&platform, count).await?;
    let waiting = waiting(&platform).await?;
    anyhow::ensure!(
        waiting == i64::from(count),
        "{count} orders were accepted, {waiting} are in the queue"
    );
    let service = platform.order_service_pid();
    let resting = proportional_memory_mb(service);
    session.progress.note("draining");
    platform.start_manager(session).await?;
    let drained = drain(session, &mut platform, count).await?;
    let verified = verify::orders(&mut platform, count.unsigned_abs().into(), count).await?;
    let memory = peak_memory_mb(service);
    drop(platform);
    let o1 = orders::o1(session).await?;
    let rate = f64::from(count) / drained.as_secs_f64();
    let mut outcome = Outcome::of(vec![
        Figure::once("drained", Unit::PerSecond, rate),
        Figure::once("peak memory of the service", Unit::Megabytes, memory),
        Figure::once("memory with the queue full", Unit::Megabytes, resting),
    ])
    .against("O1", o1);
    outcome.unjudged = session.effort.quick;
    Ok(outcome
        .verified(verified)
        .note("drained: from the data manager's start to the last order's ledger events"))
}

/// Sends orders with ids from 1; all are accepted, none can be processed yet.
async fn accept(platform: &Platform, count: i32) -> anyhow::Result<()> {
    let requests = (0..count).step_by(TOGETHER as usize);
    let client = client(platform.grpc)?;
    let send = |first: i32| {
        let mut client = client.clone();
        let orders = (first + 1..=count.min(first + TOGETHER)).map(order).collect();
        async move {
            let mut request = tonic::Request::new(ProcessOrdersRequest { orders });
            request.set_timeout(Duration::from_secs(5));
            let answer = client.process_orders(request).await?.into_inner();
            let processed =
                answer.processed_orders.iter().filter(|order| order.is_processed).count();
            anyhow::ensure!(processed == 0, "orders were processed without a data manager");
            anyhow::Ok(())
        }
    };
    use futures::{StreamExt as _, TryStreamExt as _};
    futures::stream::iter(requests.map(send))
        .buffer_unordered(IN_FLIGHT as usize)
        .try_collect::<()>()
        .await
}

async fn waiting(platform: &Platform) -> anyhow::Result<i64> {
    let mut control = PgConnection::connect_with(&options(&platform.data_dir(), "control")).await?;
    let waiting = sqlx::query_scalar("SELECT count(*) FROM jobs WHERE queue = 'orders'");
    Ok(waiting.fetch_one(&mut control).await?)
}

/// Waits until each order has posted its two events.
async fn drain(session: &Session, platform: &mut Platform, count: i32) -> anyhow::Result<Duration> {
    let mut http = Http::connect(platform.http).await?;
    let begun = Instant::now();
    let mut said = Instant::now();
    loop {
        platform.check_alive()?;
        let done = event_count(&mut http).await? / 2;
        if done == u64::from(count.unsigned_abs()) {
            return Ok(begun.elapsed());
        }
        if said.elapsed() > Duration::from_secs(5) {
            session.progress.note(&format!("{done} of {count} drained"));
            said = Instant::now();
        }
        anyhow::ensure!(
            begun.elapsed() < PATIENCE,
            "{done} of {count} orders are done after {PATIENCE:?}"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
