//! Load on `ProcessOrders`: a closed loop with a fixed number of concurrent requests
//! and orders per request.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use proto::order_service::ProcessOrdersRequest;
use proto::order_service::order_service_client::OrderServiceClient;
use proto::order_service::process_orders_request::OrderRequest;
use serving::peer::GrpcPeer;
use tonic::transport::Channel;

use super::{Answered, Client, Connect};

/// Connections per thread, shared by its clients.
const CONNECTIONS: usize = 4;

/// gRPC client of an order service on a loopback port.
pub fn client(port: u16) -> anyhow::Result<OrderServiceClient<Channel>> {
    let peer = GrpcPeer::at_address(&format!("127.0.0.1:{port}")).map_err(anyhow::Error::msg)?;
    Ok(OrderServiceClient::new(peer.channel).max_decoding_message_size(64 << 20))
}

/// Generator of unused order ids; clones share it.
#[derive(Debug, Clone, Default)]
pub struct OrderIds(Arc<AtomicI32>);

impl OrderIds {
    /// Reserves `count` consecutive ids; returns the first.
    pub fn take(&self, count: usize) -> i32 {
        self.0.fetch_add(count as i32, Ordering::Relaxed) + 1
    }

    /// The last id reserved.
    pub fn last(&self) -> i32 {
        self.0.load(Ordering::Relaxed)
    }
}

/// An order of the load; the product is derived from the id.
pub fn order(order_id: i32) -> OrderRequest {
    OrderRequest { order_id, product_id: order_id.rem_euclid(100) + 1 }
}

/// gRPC clients by thread and connection index.
type Channels = HashMap<(ThreadId, usize), OrderServiceClient<Channel>>;

/// Settings and state of the load.
#[derive(Clone)]
pub struct Orders {
    port: u16,
    together: usize,
    ids: OrderIds,
    channels: Arc<Mutex<Channels>>,
}

impl Orders {
    /// Requests with `together` orders each to the order service on `port`.
    pub fn new(port: u16, together: usize, ids: OrderIds) -> Self {
        Self { port, together, ids, channels: Arc::default() }
    }

    /// The gRPC client for a load client, shared with others on its thread.
    fn channel(&self, number: usize) -> anyhow::Result<OrderServiceClient<Channel>> {
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        let place = (std::thread::current().id(), number % CONNECTIONS);
        if let Some(channel) = channels.get(&place) {
            return Ok(channel.clone());
        }
        let channel = client(self.port)?;
        channels.insert(place, channel.clone());
        Ok(channel)
    }
}

/// One client of the load.
pub struct OrderClient {
    client: OrderServiceClient<Channel>,
    load: Orders,
}

impl Connect for Orders {
    type Client = OrderClient;

    async fn connect(&self, number: usize) -> anyhow::Result<OrderClient> {
        Ok(OrderClient { client: self.channel(number)?, load: self.clone() })
    }
}

impl Client for OrderClient {
    async fn next(&mut self) -> anyhow::Result<Answered> {
        let first = self.load.ids.take(self.load.together);
        let orders = (0..self.load.together as i32).map(|n| order(first + n)).collect();
        let mut request = tonic::Request::new(ProcessOrdersRequest { orders });
        request.set_timeout(Duration::from_secs(60));
        let sent = Instant::now();
        let response = self.client.process_orders(request).await?.into_inner();
        let took = sent.elapsed();
        let processed = response.processed_orders.iter().filter(|order| order.is_processed).count();
        anyhow::ensure!(
            processed == self.load.together,
            "{} of {} orders were not processed",
            self.load.together - processed,
            self.load.together
        );
        Ok(Answered { units: processed as u64, took })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_given_once() {
        let ids = OrderIds::default();
        assert_eq!(
            (ids.take(1000), ids.clone().take(2), ids.take(1), ids.last()),
            (1, 1001, 1003, 1003)
        );
    }

    #[test]
    fn every_order_has_a_product() {
        assert_eq!((order(100).product_id, order(-1).product_id), (1, 100));
    }
}
