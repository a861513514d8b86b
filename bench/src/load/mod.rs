//! Load generators: clients on separate threads, each with a current-thread runtime, so that load
//! and measurement do not delay each other.
//!
//! The load runs continuously while it is measured in windows: no window starts cold or ends with
//! idle clients. A response counts in the window in which it arrives.

mod balances;
mod crowd;
mod events;
mod http;
mod messages;
mod orders;
mod streamed;
mod windows;

use std::future::Future;
use std::time::Duration;

pub use balances::Balances;
pub use crowd::Crowd;
pub use events::{EventLoad, Shape, event_count, fill};
pub use http::Http;
pub use messages::{Messages, NAME, create_configs};
pub use orders::{OrderIds, Orders, client, order};
pub use streamed::{Streamed, Streams};
pub use windows::{Windows, measure};

/// A client of a load: sends its next request after the previous response.
pub trait Client {
    /// Sends a request and waits for the response; returns the acknowledged units and the latency.
    fn next(&mut self) -> impl Future<Output = anyhow::Result<Answered>>;

    /// At the end of the load, waits for outstanding responses; returns their units.
    fn finish(&mut self) -> impl Future<Output = anyhow::Result<u64>> {
        std::future::ready(Ok(0))
    }
}

/// Result of one request.
#[derive(Debug, Clone, Copy)]
pub struct Answered {
    /// Acknowledged units of work; with 0 the latency is not recorded.
    pub units: u64,
    /// Latency of the request.
    pub took: Duration,
}

/// Factory of a load's clients.
pub trait Connect: Clone + Send + 'static {
    /// Type of the clients.
    type Client: Client + 'static;

    /// Creates the client with this number, on the thread that runs it.
    fn connect(&self, number: usize) -> impl Future<Output = anyhow::Result<Self::Client>>;
}
