//! Load generators: clients on separate threads, each with a current-thread runtime, so that load
//! and measurement do not delay each other.
//!
//! The load runs continuously while it is measured in windows: no window starts cold or ends with
//! idle clients. A response counts in the window in which it arrives.

mod balances;
mod event_ingest;
mod generator;
mod http;
mod ledger_events;
mod order_streams;
mod orders;
mod windows;

use std::future::Future;
use std::time::Duration;

pub use balances::BalanceLoad;
pub use event_ingest::{EventIngestLoad, LOAD_EVENT_NAME, create_action_configs};
pub use generator::LoadGenerator;
pub use http::LoadHttpClient;
pub use ledger_events::{LedgerEventLoad, LedgerEventShape, read_event_count, write_ledger_events};
pub use order_streams::{OrderStreamLoad, SlowOrders};
pub use orders::{OrderIdGenerator, OrderLoad, connect_order_service, new_order_request};
pub use windows::{LoadWindows, measure_windows};

/// A client of a load: sends its next request after the previous response.
pub trait LoadClient {
    /// Sends a request and waits for the response; returns the acknowledged units and the latency.
    fn next(&mut self) -> impl Future<Output = anyhow::Result<LoadResponse>>;

    /// At the end of the load, waits for outstanding responses; returns their units.
    fn finish(&mut self) -> impl Future<Output = anyhow::Result<u64>> {
        std::future::ready(Ok(0))
    }
}

/// Result of one request.
#[derive(Debug, Clone, Copy)]
pub struct LoadResponse {
    /// Acknowledged units of work; with 0 the latency is not recorded.
    pub units: u64,
    /// Latency of the request.
    pub latency: Duration,
}

/// Factory of a load's clients.
pub trait LoadClientFactory: Clone + Send + 'static {
    /// Type of the clients.
    type Client: LoadClient + 'static;

    /// Creates the client with this number, on the thread that runs it.
    fn connect(&self, number: usize) -> impl Future<Output = anyhow::Result<Self::Client>>;
}
