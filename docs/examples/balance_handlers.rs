//! Handlers of the example integration `balance_integration.rs`.

use configurator::sdk::{
    BlockAction, BlockRequest, IntegrationError, IntegrationHandler, IntegrationHandlers,
};
use serde::{Deserialize, Serialize};

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
