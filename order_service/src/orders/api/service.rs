//! The gRPC methods.

use std::pin::Pin;
use std::time::Duration;

use access::{RouteAccess, Scope};
use futures::Stream;
use futures::future::join_all;
use proto::order_service as wire;
use proto::order_service::order_service_server::OrderService;
use proto::order_service::process_orders_response::OrderResponse;
use serving::caller::Caller;
use serving::error::{ApiError, ErrorCode};
use serving::grpc;
use serving::scoped_rpcs::RpcAccess;
use store::FairTurn;
use tokio::time::Instant;
use tonic::{Request, Response, Status, Streaming};

use super::process::answer_timeout;
use super::{OrderApiState, convert, process, read, retries, stream, validate};
use crate::orders::OrderId;
use crate::orders::db::retry_order;

/// Maximum number of callbacks in one request.
const MAX_CALLBACKS_PER_REQUEST: usize = 10_000;
/// Upper bound of the client's timeout.
const MAX_REQUEST_TIMEOUT: Duration = Duration::from_secs(24 * 3600);

/// What each rpc demands of its caller.
pub const ORDER_SERVICE_RPCS: [RpcAccess; 8] = [
    ("/order_service.OrderService/ProcessOrders", RouteAccess::Scope(Scope::OrdersProcess)),
    ("/order_service.OrderService/ProcessOrderStream", RouteAccess::Scope(Scope::OrdersProcess)),
    ("/order_service.OrderService/RetryOrder", RouteAccess::Scope(Scope::OrdersProcess)),
    ("/order_service.OrderService/RetryOrders", RouteAccess::Scope(Scope::OrdersProcess)),
    ("/order_service.OrderService/GetOrder", RouteAccess::Scope(Scope::OrdersRead)),
    ("/order_service.OrderService/ListOrders", RouteAccess::Scope(Scope::OrdersRead)),
    (
        "/order_service.OrderService/SendOrderDataCallback",
        RouteAccess::Scope(Scope::OrdersCallback),
    ),
    (
        "/order_service.OrderService/SendOrdersDataCallback",
        RouteAccess::Scope(Scope::OrdersCallback),
    ),
];

/// Implementation of the `OrderService` gRPC service.
#[derive(Clone)]
pub struct OrderApi(OrderApiState);

impl OrderApi {
    /// A service over `api_state`.
    pub fn new(api_state: OrderApiState) -> Self {
        Self(api_state)
    }
}

/// Runs a request in a task of its own: a cancelled client does not cancel it.
async fn run_detached<T: Send + 'static>(
    request_future: impl Future<Output = Result<T, ApiError>> + Send + 'static,
) -> Result<Response<T>, Status> {
    match tokio::spawn(store::panics::contain_panic(request_future)).await {
        Ok(result) => result.map(Response::new).map_err(Status::from),
        Err(_) => Err(ApiError::new(
            ErrorCode::LogicError,
            "the request's task ended early: see the service's log",
        )
        .into()),
    }
}

#[tonic::async_trait]
impl OrderService for OrderApi {
    async fn process_orders(
        &self,
        request: Request<wire::ProcessOrdersRequest>,
    ) -> Result<Response<wire::ProcessOrdersResponse>, Status> {
        let started = Instant::now();
        let timeout = grpc::parse_timeout(request.metadata().as_ref())
            .unwrap_or(self.0.limits.default_timeout)
            .min(MAX_REQUEST_TIMEOUT);
        let orders = validate::validate_orders(
            &request.into_inner().orders,
            self.0.limits.max_orders_per_request,
        )?;
        let (api_state, open_request) = (self.0.clone(), self.0.open_requests.track_request());
        let within = answer_timeout(timeout);
        run_detached(async move {
            let processed_orders = process::process_orders(api_state, orders, within).await?;
            metrics::histogram!("order_request_seconds").record(started.elapsed().as_secs_f64());
            drop(open_request);
            Ok(wire::ProcessOrdersResponse { processed_orders })
        })
        .await
    }

    async fn send_order_data_callback(
        &self,
        request: Request<wire::SendOrderDataCallbackRequest>,
    ) -> Result<Response<()>, Status> {
        let callback = validate::validate_callback(request.get_ref())?;
        // The coalescer's task writes: a cancelled caller does not lose the callback.
        let turn = self.0.exchange.turn_of(callback.order_id).unwrap_or_else(FairTurn::next);
        let answer = self.0.callbacks.store_in_turn(turn, callback).await;
        convert::callback_api_result(callback, answer)?;
        Ok(Response::new(()))
    }

    async fn send_orders_data_callback(
        &self,
        request: Request<wire::SendOrdersDataCallbackRequest>,
    ) -> Result<Response<wire::SendOrdersDataCallbackResponse>, Status> {
        let callbacks = request.into_inner().callbacks;
        if callbacks.len() > MAX_CALLBACKS_PER_REQUEST {
            let reason = format!(
                "{} callbacks; at most {MAX_CALLBACKS_PER_REQUEST} are allowed",
                callbacks.len()
            );
            return Err(ApiError::invalid_field("callbacks", reason).into());
        }
        let turn = FairTurn::next();
        let answers = callbacks.iter().map(|callback_request| async move {
            let callback = validate::validate_callback(callback_request)?;
            let turn = self.0.exchange.turn_of(callback.order_id).unwrap_or(turn);
            let answer = self.0.callbacks.store_in_turn(turn, callback).await;
            convert::callback_api_result(callback, answer)
        });
        let answers = join_all(answers).await;
        let errors = callbacks.iter().zip(answers).filter_map(|(callback_request, answer)| {
            answer.err().map(|error| convert::wire_callback_error(callback_request.order_id, error))
        });
        Ok(Response::new(wire::SendOrdersDataCallbackResponse { errors: errors.collect() }))
    }

    type ProcessOrderStreamStream =
        Pin<Box<dyn Stream<Item = Result<OrderResponse, Status>> + Send>>;

    async fn process_order_stream(
        &self,
        request: Request<Streaming<wire::process_orders_request::OrderRequest>>,
    ) -> Result<Response<Self::ProcessOrderStreamStream>, Status> {
        self.0.check_running()?;
        let timeout = grpc::parse_timeout(request.metadata().as_ref())
            .map(|timeout| timeout.min(MAX_REQUEST_TIMEOUT));
        // A stream with a deadline gives its whole time to each order.
        let order_timeout = timeout.unwrap_or(answer_timeout(self.0.limits.default_timeout));
        let deadline = timeout.map(|timeout| Instant::now() + answer_timeout(timeout));
        let answers = stream::process_order_stream(
            self.0.clone(),
            request.into_inner(),
            order_timeout,
            deadline,
        );
        Ok(Response::new(Box::pin(answers)))
    }

    async fn get_order(
        &self,
        request: Request<wire::GetOrderRequest>,
    ) -> Result<Response<wire::Order>, Status> {
        Ok(Response::new(read::get_order(&self.0, request.into_inner().order_id.into()).await?))
    }

    async fn list_orders(
        &self,
        request: Request<wire::ListOrdersRequest>,
    ) -> Result<Response<wire::ListOrdersResponse>, Status> {
        Ok(Response::new(read::list_orders(&self.0, request.into_inner()).await?))
    }

    async fn retry_order(
        &self,
        request: Request<wire::RetryOrderRequest>,
    ) -> Result<Response<wire::Order>, Status> {
        let actor = Caller::of_extensions(request.extensions()).to_audit_actor();
        let order_id = OrderId::from(request.into_inner().order_id);
        let api_state = self.0.clone();
        run_detached(async move {
            let result = retry_order(&api_state.pool, &api_state.jobs, order_id, &actor).await;
            result.map_err(|error| convert::retry_api_error(order_id, error))?;
            read::get_order(&api_state, order_id).await
        })
        .await
    }

    async fn retry_orders(
        &self,
        request: Request<wire::RetryOrdersRequest>,
    ) -> Result<Response<wire::RetryOrdersResponse>, Status> {
        let actor = Caller::of_extensions(request.extensions()).to_audit_actor();
        let request = request.into_inner();
        let target = validate::validate_retry(&request)?;
        let api_state = self.0.clone();
        run_detached(async move {
            retries::retry_target_orders(&api_state, target, request.dry_run, &actor).await
        })
        .await
    }
}
