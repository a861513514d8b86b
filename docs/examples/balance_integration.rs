//! An integration in Rust: the queue `balance` with the task types `set_service` and `set_price`,
//! whose handlers are in `balance_handlers.rs`.
//!
//! ```text
//! AWS_REGION=eu-central-1 AWS_ACCESS_KEY_ID=… AWS_SECRET_ACCESS_KEY=… balance_integration test
//! ```
//!
//! A second argument is the URL of an endpoint other than Amazon's, such as an emulator's.

mod balance_handlers;

use std::sync::Arc;

use configurator::sdk::{Env, IntegrationWorker};
use queue::fifo::SqsAccount;
use queue_sqs::SqsFifo;
use tokio_util::sync::CancellationToken;

use balance_handlers::balance_handlers;

/// Runs until Ctrl-C, then finishes the messages in work.
#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let env: Env = arguments.next().unwrap_or_else(|| "test".to_owned()).parse()?;
    let account = SqsAccount { endpoint_url: arguments.next(), ..SqsAccount::default() };
    let stop = CancellationToken::new();
    let stopping = stop.clone();
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            stopping.cancel();
        }
    });
    let queues = Arc::new(SqsFifo::new(&account).await);
    IntegrationWorker::new(queues).run(balance_handlers(), "balance", env, stop).await;
    Ok(())
}
