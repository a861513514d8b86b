//! An integration in Rust: the queue `balance` with the task types `set_service` and `set_price`.
//!
//! ```text
//! AWS_REGION=eu-central-1 AWS_ACCESS_KEY_ID=… AWS_SECRET_ACCESS_KEY=… balance_integration test
//! ```
//!
//! A second argument is the URL of an endpoint other than Amazon's, such as an emulator's.

use std::sync::Arc;

use configurator::sdk::{
    BlockAction, BlockRequest, Env, IntegrationError, IntegrationHandler, IntegrationHandlers,
    IntegrationWorker,
};
use queue::fifo::SqsAccount;
use queue_sqs::SqsFifo;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

/// Params of `set_service`: the args of its blocks.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceParams {
    service_id: i64,
}

/// Outputs of `set_service`, for references from other blocks.
#[derive(Serialize)]
pub struct ServiceState {
    id: i64,
}

/// `balance.set_service`: idempotent, because the id is derived from the input.
pub struct SetService;

impl IntegrationHandler for SetService {
    const TASK_TYPE: &'static str = "set_service";
    type Params = ServiceParams;
    type State = ServiceState;

    async fn handle(
        &self,
        request: BlockRequest<ServiceParams>,
    ) -> Result<ServiceState, IntegrationError> {
        Ok(ServiceState { id: 1000 + request.params.service_id })
    }
}

/// Params of `set_price`: the args of its blocks.
#[derive(Deserialize)]
pub struct PriceParams {
    service: i64,
    price: f64,
}

/// Outputs of `set_price`, for references from other blocks.
#[derive(Serialize)]
pub struct PriceState {
    service: i64,
    price: Option<f64>,
}

/// `balance.set_price`.
pub struct SetPrice;

impl IntegrationHandler for SetPrice {
    const TASK_TYPE: &'static str = "set_price";
    type Params = PriceParams;
    type State = PriceState;

    async fn handle(
        &self,
        request: BlockRequest<PriceParams>,
    ) -> Result<PriceState, IntegrationError> {
        let PriceParams { service, price } = request.params;
        match request.action {
            BlockAction::Delete => Ok(PriceState { service, price: None }),
            // Answered with an error code and the field; the blocks that depend on this one are skipped.
            _ if price < 0.0 => Err(IntegrationError::invalid("price", "must not be negative")),
            _ => Ok(PriceState { service, price: Some(price) }),
        }
    }
}

/// The handlers of this integration, by task type.
pub fn balance_handlers() -> IntegrationHandlers {
    IntegrationHandlers::default().with_handler(SetService).with_handler(SetPrice)
}

/// Runs until Ctrl-C, then finishes the messages in work.
#[allow(dead_code)] // tests use only the handlers
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
