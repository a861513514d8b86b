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
use serving::peer::{GrpcPeer, PeerChannel};

use super::{LoadClient, LoadClientFactory, LoadResponse};

/// Connections per thread, shared by its clients.
const CONNECTIONS_PER_THREAD: usize = 4;

/// gRPC client of an order service on a loopback port.
pub fn connect_order_service(port: u16) -> anyhow::Result<OrderServiceClient<PeerChannel>> {
    let peer = GrpcPeer::at_address(&format!("127.0.0.1:{port}")).map_err(anyhow::Error::msg)?;
    Ok(OrderServiceClient::new(peer.channel).max_decoding_message_size(64 << 20))
}

/// Generator of unused order ids; clones share it.
#[derive(Debug, Clone, Default)]
pub struct OrderIdGenerator(Arc<AtomicI32>);

impl OrderIdGenerator {
    /// Reserves `count` consecutive ids; returns the first.
    pub fn reserve_ids(&self, count: usize) -> i32 {
        self.0.fetch_add(count as i32, Ordering::Relaxed) + 1
    }

    /// The last id reserved.
    pub fn last_id(&self) -> i32 {
        self.0.load(Ordering::Relaxed)
    }
}

/// An order of the load; the product is derived from the id.
pub fn new_order_request(order_id: i32) -> OrderRequest {
    OrderRequest { order_id, product_id: order_id.rem_euclid(100) + 1 }
}

/// gRPC clients by thread and connection index.
type SharedOrderClients = HashMap<(ThreadId, usize), OrderServiceClient<PeerChannel>>;

/// Settings and state of the load.
#[derive(Clone)]
pub struct OrderLoad {
    port: u16,
    orders_per_request: usize,
    ids: OrderIdGenerator,
    clients: Arc<Mutex<SharedOrderClients>>,
}

impl OrderLoad {
    /// Requests with `orders_per_request` orders each to the order service on `port`.
    pub fn new(port: u16, orders_per_request: usize, ids: OrderIdGenerator) -> Self {
        Self { port, orders_per_request, ids, clients: Arc::default() }
    }

    /// The gRPC client for a load client, shared with others on its thread.
    fn shared_client(&self, number: usize) -> anyhow::Result<OrderServiceClient<PeerChannel>> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (std::thread::current().id(), number % CONNECTIONS_PER_THREAD);
        if let Some(client) = clients.get(&key) {
            return Ok(client.clone());
        }
        let client = connect_order_service(self.port)?;
        clients.insert(key, client.clone());
        Ok(client)
    }
}

/// One client of the load.
pub struct OrderLoadClient {
    client: OrderServiceClient<PeerChannel>,
    load: OrderLoad,
}

impl LoadClientFactory for OrderLoad {
    type Client = OrderLoadClient;

    async fn connect(&self, number: usize) -> anyhow::Result<OrderLoadClient> {
        Ok(OrderLoadClient { client: self.shared_client(number)?, load: self.clone() })
    }
}

impl LoadClient for OrderLoadClient {
    async fn next(&mut self) -> anyhow::Result<LoadResponse> {
        let first = self.load.ids.reserve_ids(self.load.orders_per_request);
        let orders = (0..self.load.orders_per_request as i32)
            .map(|n| new_order_request(first + n))
            .collect();
        let mut request = tonic::Request::new(ProcessOrdersRequest { orders });
        request.set_timeout(Duration::from_secs(60));
        let sent = Instant::now();
        let response = self.client.process_orders(request).await?.into_inner();
        let took = sent.elapsed();
        let processed =
            response.processed_orders.iter().filter(|result| result.is_processed).count();
        anyhow::ensure!(
            processed == self.load.orders_per_request,
            "{} of {} orders were not processed",
            self.load.orders_per_request - processed,
            self.load.orders_per_request
        );
        Ok(LoadResponse { units: processed as u64, latency: took })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_given_once() {
        let ids = OrderIdGenerator::default();
        assert_eq!(
            (ids.reserve_ids(1000), ids.clone().reserve_ids(2), ids.reserve_ids(1), ids.last_id()),
            (1, 1001, 1003, 1003)
        );
    }

    #[test]
    fn every_order_has_a_product() {
        assert_eq!((new_order_request(100).product_id, new_order_request(-1).product_id), (1, 100));
    }
}
