//! The three calls of the contract.

use std::sync::Arc;

use proto::data_manager::data_manager_server::DataManager;
use proto::data_manager::{
    GetOrderDataCallbackRequest, GetOrdersDataCallbackRequest, GetOrdersDataCallbackResponse,
    GetOrdersDataResponse,
};
use serving::error::ApiError;
use tonic::{Request, Response, Status};

use crate::exchange::{Exchange, not_stored};

/// Orders in one question.
const MAX_ASKED: usize = 10_000;

pub(crate) struct Api(pub(crate) Arc<Exchange>);

#[tonic::async_trait]
impl DataManager for Api {
    async fn get_order_data_callback(
        &self,
        request: Request<GetOrderDataCallbackRequest>,
    ) -> Result<Response<()>, Status> {
        self.0.ask(request.into_inner().order_id).await.map(Response::new)
    }

    async fn get_orders_data(&self, _: Request<()>) -> Result<Response<GetOrdersDataResponse>, Status> {
        let orders = self.0.work.book.all().await.map_err(not_stored)?;
        Ok(Response::new(GetOrdersDataResponse { orders }))
    }

    async fn get_orders_data_callback(
        &self,
        request: Request<GetOrdersDataCallbackRequest>,
    ) -> Result<Response<GetOrdersDataCallbackResponse>, Status> {
        let order_ids = request.into_inner().order_ids;
        if order_ids.len() > MAX_ASKED {
            let reason = format!("{} orders, at most {MAX_ASKED} are allowed", order_ids.len());
            return Err(ApiError::field("order_ids", reason).into());
        }
        let errors = self.0.ask_all(order_ids).await?;
        Ok(Response::new(GetOrdersDataCallbackResponse { errors }))
    }
}
