//! Load: clients on threads of their own, each thread with a runtime of its own, so that what is measured and who
//! measures do not wait for one another.
//!
//! A load runs on without a pause while it is measured in windows: no window begins cold or ends with idle clients.
//! What was answered within a window counts there, with the time each answer took.

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

/// One client of a load, on one thread: it sends its next request when the previous one was answered.
pub trait Client {
    /// Sends a request and waits for the answer: how many units of work were acknowledged, and the time that counts.
    fn next(&mut self) -> impl Future<Output = anyhow::Result<Answered>>;

    /// Waits for the answers to what is still open, when the load ends.
    fn finish(&mut self) -> impl Future<Output = anyhow::Result<u64>> {
        std::future::ready(Ok(0))
    }
}

/// An answer.
#[derive(Debug, Clone, Copy)]
pub struct Answered {
    /// Acknowledged units of work. With none, the time does not count.
    pub units: u64,
    /// What it took.
    pub took: Duration,
}

/// Makes the clients of a load.
pub trait Connect: Clone + Send + 'static {
    /// What it makes.
    type Client: Client + 'static;

    /// Makes the client with this number, on the thread on which it will work.
    fn connect(&self, number: usize) -> impl Future<Output = anyhow::Result<Self::Client>>;
}
