//! Verification through the API that acknowledged data is stored; otherwise the row fails.

use proto::order_service::{GetOrderRequest, OrderState};

use crate::load::{LoadHttpClient, connect_order_service, read_event_count};
use crate::platform::Platform;

/// Number of orders checked individually.
const ORDER_SAMPLE_SIZE: i32 = 200;

/// Checks that each of `acknowledged` orders (ids from 1 to `last_id`) has posted exactly two events,
/// by their total, and checks a sample individually.
pub async fn verify_orders(
    platform: &mut Platform,
    acknowledged: u64,
    last_id: i32,
) -> anyhow::Result<String> {
    platform.check_alive()?;
    let stored_events =
        read_event_count(&mut LoadHttpClient::connect(platform.http_port).await?).await?;
    anyhow::ensure!(
        stored_events == 2 * acknowledged,
        "{acknowledged} orders were acknowledged, but the ledger holds {stored_events} events"
    );
    let mut client = connect_order_service(platform.grpc_port)?;
    let step = (last_id / ORDER_SAMPLE_SIZE).max(1);
    let mut sampled = 0;
    for order_id in (1..=last_id).step_by(step.unsigned_abs() as usize) {
        let order = client.get_order(GetOrderRequest { order_id }).await?.into_inner();
        anyhow::ensure!(
            order.state() == OrderState::ProcessFinished && order.storage_id != 0,
            "order {order_id} was acknowledged and is in state {:?}",
            order.state()
        );
        sampled += 1;
    }
    Ok(format!(
        "{acknowledged} orders acknowledged = {stored_events} / 2 ledger events; {sampled} orders looked at one by one"
    ))
}

/// Checks that the ledger holds exactly `acknowledged` events.
pub async fn verify_events(platform: &mut Platform, acknowledged: u64) -> anyhow::Result<String> {
    platform.check_alive()?;
    let stored_events =
        read_event_count(&mut LoadHttpClient::connect(platform.http_port).await?).await?;
    anyhow::ensure!(
        stored_events == acknowledged,
        "{acknowledged} events were acknowledged, {stored_events} are there"
    );
    Ok(format!("{acknowledged} events acknowledged = {stored_events} events in GET /v1/shards"))
}
