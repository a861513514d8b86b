//! gRPC service `DataManager`: the three calls of the contract.

use std::sync::Arc;

use access::{RouteAccess, Scope};
use proto::data_manager::data_manager_server::DataManager;
use proto::data_manager::{
    GetOrderDataCallbackRequest, GetOrdersDataCallbackRequest, GetOrdersDataCallbackResponse,
    GetOrdersDataResponse,
};
use serving::error::ApiError;
use serving::scoped_rpcs::RpcAccess;
use tonic::{Request, Response, Status};

use crate::exchange::{QuestionHandler, store_error_status};

/// Maximum orders in one question.
const MAX_ORDERS_PER_QUESTION: usize = 10_000;

/// What each rpc demands of its caller: the order service asks while it processes orders.
pub const DATA_MANAGER_RPCS: [RpcAccess; 3] = [
    ("/data_manager.DataManager/GetOrderDataCallback", RouteAccess::Scope(Scope::OrdersProcess)),
    ("/data_manager.DataManager/GetOrdersDataCallback", RouteAccess::Scope(Scope::OrdersProcess)),
    ("/data_manager.DataManager/GetOrdersData", RouteAccess::Scope(Scope::OrdersRead)),
];

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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_rpc_has_its_access() {
        let paths = serving::grpc::rpc_paths(proto::FILE_DESCRIPTOR_SET).into_iter();
        let ours: BTreeSet<String> =
            paths.filter(|path| path.starts_with("/data_manager.")).collect();
        let table = DATA_MANAGER_RPCS.iter().map(|(path, _)| (*path).to_owned()).collect();
        assert_eq!(ours, table);
    }
}
