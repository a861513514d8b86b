//! gRPC service `DataManager`: the three calls of the contract.

use std::sync::Arc;

use proto::data_manager::data_manager_server::DataManager;
use proto::data_manager::{
    GetOrderDataCallbackRequest, GetOrdersDataCallbackRequest, GetOrdersDataCallbackResponse,
    GetOrdersDataResponse,
};
use serving::error::ApiError;
use tonic::{Request, Response, Status};

use crate::exchange::{QuestionHandler, store_error_status};

/// Maximum orders in one question.
const MAX_ORDERS_PER_QUESTION: usize = 10_000;

pub(crate) struct DataManagerApi(pub(crate) Arc<QuestionHandler>);

#[tonic::async_trait]
impl DataManager for DataManagerApi {
    async fn get_order_data_callback(
        &self,
        request: Request<GetOrderDataCallbackRequest>,
    ) -> Result<Response<()>, Status> {
        self.0.answer_question(request.into_inner().order_id).await.map(Response::new)
    }

    async fn get_orders_data(
        &self,
        _: Request<()>,
    ) -> Result<Response<GetOrdersDataResponse>, Status> {
        let orders = self.0.context.assignments.list_orders().await.map_err(store_error_status)?;
        Ok(Response::new(GetOrdersDataResponse { orders }))
    }

    async fn get_orders_data_callback(
        &self,
        request: Request<GetOrdersDataCallbackRequest>,
    ) -> Result<Response<GetOrdersDataCallbackResponse>, Status> {
        let order_ids = request.into_inner().order_ids;
        if order_ids.len() > MAX_ORDERS_PER_QUESTION {
            let reason = format!(
                "{} orders, at most {MAX_ORDERS_PER_QUESTION} are allowed",
                order_ids.len()
            );
            return Err(ApiError::invalid_field("order_ids", reason).into());
        }
        let errors = self.0.answer_questions(order_ids).await?;
        Ok(Response::new(GetOrdersDataCallbackResponse { errors }))
    }
}
