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

use super::orders::order;
use super::{Answered, Client, Connect, OrderIds, client};

/// Latency that indicates a wait for a callback timeout, which is 2 s.
const SLOW: Duration = Duration::from_millis(1800);

/// Settings and state of the load.
#[derive(Clone)]
pub struct Streamed {
    /// gRPC port of the order service.
    pub port: u16,
    /// Unanswered orders per stream.
    pub window: usize,
    /// Generator of order ids.
    pub ids: OrderIds,
    /// Observations of the streams.
    pub seen: Arc<Streams>,
}

/// Observations of a load's streams.
#[derive(Debug, Default)]
pub struct Streams {
    slow: Mutex<Vec<i32>>,
}

impl Streams {
    /// Ids of the orders that waited for a callback timeout or were not processed.
    pub fn slow(&self) -> Vec<i32> {
        self.slow.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// One stream of the load.
pub struct StreamClient {
    load: Streamed,
    orders: Option<mpsc::Sender<OrderRequest>>,
    answers: Streaming<OrderResponse>,
    open: HashMap<i32, Instant>,
}

impl Connect for Streamed {
    type Client = StreamClient;

    async fn connect(&self, _: usize) -> anyhow::Result<StreamClient> {
        let (orders, sent) = mpsc::channel(self.window);
        // Some servers only send response headers after the first message.
        let first = self.ids.take(1);
        orders.send(order(first)).await?;
        let answers =
            client(self.port)?.process_order_stream(ReceiverStream::new(sent)).await?.into_inner();
        let open = HashMap::from([(first, Instant::now())]);
        Ok(StreamClient { load: self.clone(), orders: Some(orders), answers, open })
    }
}

impl StreamClient {
    async fn answer(&mut self) -> anyhow::Result<Answered> {
        let answer = self.answers.message().await?.context("the stream ended")?;
        let sent = self.open.remove(&answer.order_id).context("an answer that nobody waits for")?;
        let took = sent.elapsed();
        if took < SLOW && answer.is_processed {
            return Ok(Answered { units: 1, took });
        }
        self.load.seen.slow.lock().unwrap_or_else(PoisonError::into_inner).push(answer.order_id);
        Ok(Answered { units: 0, took })
    }
}

impl Client for StreamClient {
    async fn next(&mut self) -> anyhow::Result<Answered> {
        while let Some(orders) = &self.orders
            && self.open.len() < self.load.window
        {
            let id = self.load.ids.take(1);
            self.open.insert(id, Instant::now());
            orders.send(order(id)).await?;
        }
        self.answer().await
    }

    async fn finish(&mut self) -> anyhow::Result<u64> {
        self.orders = None;
        let mut units = 0;
        while !self.open.is_empty() {
            units += self.answer().await?.units;
        }
        Ok(units)
    }
}
