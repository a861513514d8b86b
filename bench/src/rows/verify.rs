//! Verification through the API that acknowledged data is stored; otherwise the row fails.

use proto::order_service::{GetOrderRequest, OrderState};

use crate::load::{Http, client, event_count};
use crate::platform::Platform;

/// Number of orders checked individually.
const SAMPLE: i32 = 200;

/// Checks that each of `acknowledged` orders (ids from 1 to `last`) has posted exactly two events,
/// by their total, and checks a sample individually.
pub async fn orders(
    platform: &mut Platform,
    acknowledged: u64,
    last: i32,
) -> anyhow::Result<String> {
    platform.check_alive()?;
    let events = event_count(&mut Http::connect(platform.http).await?).await?;
    anyhow::ensure!(
        events == 2 * acknowledged,
        "{acknowledged} orders were acknowledged, but the ledger holds {events} events"
    );
    let mut client = client(platform.grpc)?;
    let step = (last / SAMPLE).max(1);
    let mut looked_at = 0;
    for order_id in (1..=last).step_by(step.unsigned_abs() as usize) {
        let order = client.get_order(GetOrderRequest { order_id }).await?.into_inner();
        anyhow::ensure!(
            order.state() == OrderState::ProcessFinished && order.storage_id != 0,
            "order {order_id} was acknowledged and is in state {:?}",
            order.state()
        );
        looked_at += 1;
    }
    Ok(format!(
        "{acknowledged} orders acknowledged = {events} / 2 ledger events; {looked_at} orders looked at one by one"
    ))
}

/// Checks that the ledger holds exactly `acknowledged` events.
pub async fn events(platform: &mut Platform, acknowledged: u64) -> anyhow::Result<String> {
    platform.check_alive()?;
    let events = event_count(&mut Http::connect(platform.http).await?).await?;
    anyhow::ensure!(
        events == acknowledged,
        "{acknowledged} events were acknowledged, {events} are there"
    );
    Ok(format!("{acknowledged} events acknowledged = {events} events in GET /v1/shards"))
}
