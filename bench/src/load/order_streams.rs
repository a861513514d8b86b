//! Load on `ProcessOrderStream`: each client keeps a fixed number of orders unanswered.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use proto::order_service::process_orders_request::OrderRequest;
use proto::order_service::process_orders_response::OrderResponse;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::orders::new_order_request;
use super::{LoadClient, LoadClientFactory, LoadResponse, OrderIdGenerator, connect_order_service};

/// Latency that indicates a wait for a callback timeout, which is 2 s.
const MIN_SLOW_LATENCY: Duration = Duration::from_millis(1800);

/// Settings and state of the load.
#[derive(Clone)]
pub struct OrderStreamLoad {
    /// gRPC port of the order service.
    pub port: u16,
    /// Unanswered orders per stream.
    pub max_in_flight: usize,
    /// Generator of order ids.
    pub ids: OrderIdGenerator,
    /// Observations of the streams.
    pub slow_orders: Arc<SlowOrders>,
}

/// Observations of a load's streams.
#[derive(Debug, Default)]
pub struct SlowOrders {
    order_ids: Mutex<Vec<i32>>,
}

impl SlowOrders {
    /// Ids of the orders that waited for a callback timeout or were not processed.
    pub fn order_ids(&self) -> Vec<i32> {
        self.order_ids.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// One stream of the load.
pub struct OrderStreamLoadClient {
    load: OrderStreamLoad,
    order_sender: Option<mpsc::Sender<OrderRequest>>,
    responses: Streaming<OrderResponse>,
    in_flight: HashMap<i32, Instant>,
}

impl LoadClientFactory for OrderStreamLoad {
    type Client = OrderStreamLoadClient;

    async fn connect(&self, _: usize) -> anyhow::Result<OrderStreamLoadClient> {
        let (order_sender, order_receiver) = mpsc::channel(self.max_in_flight);
        // Some servers only send response headers after the first message.
        let first = self.ids.reserve_ids(1);
        order_sender.send(new_order_request(first)).await?;
        let responses = connect_order_service(self.port)?
            .process_order_stream(ReceiverStream::new(order_receiver))
            .await?
            .into_inner();
        let in_flight = HashMap::from([(first, Instant::now())]);
        Ok(OrderStreamLoadClient {
            load: self.clone(),
            order_sender: Some(order_sender),
            responses,
            in_flight,
        })
    }
}

impl OrderStreamLoadClient {
    async fn receive_response(&mut self) -> anyhow::Result<LoadResponse> {
        let response = self.responses.message().await?.context("the stream ended")?;
        let sent =
            self.in_flight.remove(&response.order_id).context("an answer that nobody waits for")?;
        let took = sent.elapsed();
        if took < MIN_SLOW_LATENCY && response.is_processed {
            return Ok(LoadResponse { units: 1, latency: took });
        }
        self.load
            .slow_orders
            .order_ids
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(response.order_id);
        Ok(LoadResponse { units: 0, latency: took })
    }
}

impl LoadClient for OrderStreamLoadClient {
    async fn next(&mut self) -> anyhow::Result<LoadResponse> {
        while let Some(order_sender) = &self.order_sender
            && self.in_flight.len() < self.load.max_in_flight
        {
            let id = self.load.ids.reserve_ids(1);
            self.in_flight.insert(id, Instant::now());
            order_sender.send(new_order_request(id)).await?;
        }
        self.receive_response().await
    }

    async fn finish(&mut self) -> anyhow::Result<u64> {
        self.order_sender = None;
        let mut units = 0;
        while !self.in_flight.is_empty() {
            units += self.receive_response().await?.units;
        }
        Ok(units)
    }
}
