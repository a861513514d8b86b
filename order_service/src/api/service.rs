//! The rpcs.

use std::pin::Pin;
use std::time::Duration;

use futures::Stream;
use futures::future::join_all;
use proto::order_service as wire;
use proto::order_service::order_service_server::OrderService;
use proto::order_service::process_orders_response::OrderResponse;
use serving::error::{ApiError, Code};
use serving::grpc;
use store::Turn;
use tokio::time::Instant;
use tonic::{Request, Response, Status, Streaming};

use super::process::answer_within;
use super::{Rooms, convert, process, read, retries, stream, validate};
use crate::orders::retry;

/// Callbacks in one request at most.
const MOST_CALLBACKS: usize = 10_000;
/// No request is worked on for longer, whatever the client says.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// The service.
#[derive(Clone)]
pub struct OrderApi(Rooms);

impl OrderApi {
    /// Over these rooms.
    pub fn new(rooms: Rooms) -> Self {
        Self(rooms)
    }
}

/// Runs a request's work in a task of its own, which goes on when the client goes away.
async fn uncancelled<T: Send + 'static>(
    work: impl Future<Output = Result<T, ApiError>> + Send + 'static,
) -> Result<Response<T>, Status> {
    match tokio::spawn(store::panics::told(work)).await {
        Ok(result) => result.map(Response::new).map_err(Status::from),
        Err(_) => {
            Err(ApiError::new(Code::LogicError, "the request's task ended early: see the service's log")
                .into())
        }
    }
}

#[tonic::async_trait]
impl OrderService for OrderApi {
    async fn process_orders(
        &self,
        request: Request<wire::ProcessOrdersRequest>,
    ) -> Result<Response<wire::ProcessOrdersResponse>, Status> {
        let started = Instant::now();
        let timeout =
            grpc::timeout(request.metadata().as_ref()).unwrap_or(self.0.limits.deadline).min(LONGEST);
        let orders = validate::orders(&request.into_inner().orders, self.0.limits.orders_per_request)?;
        let (rooms, open) = (self.0.clone(), self.0.open.enter());
        let within = answer_within(timeout);
        uncancelled(async move {
            let processed_orders = process::process(rooms, orders, within).await?;
            metrics::histogram!("order_request_seconds").record(started.elapsed().as_secs_f64());
            drop(open);
            Ok(wire::ProcessOrdersResponse { processed_orders })
        })
        .await
    }

    async fn send_order_data_callback(
        &self,
        request: Request<wire::SendOrderDataCallbackRequest>,
    ) -> Result<Response<()>, Status> {
        let callback = validate::callback(request.get_ref())?;
        // The writing is the coalescer's: nothing is lost if the caller does not wait for the answer.
        let answer = self.0.callbacks.store(callback).await;
        convert::callback_answer(callback, answer)?;
        Ok(Response::new(()))
    }

    async fn send_orders_data_callback(
        &self,
        request: Request<wire::SendOrdersDataCallbackRequest>,
    ) -> Result<Response<wire::SendOrdersDataCallbackResponse>, Status> {
        let callbacks = request.into_inner().callbacks;
        if callbacks.len() > MOST_CALLBACKS {
            let reason = format!("{} callbacks; at most {MOST_CALLBACKS} are allowed", callbacks.len());
            return Err(ApiError::field("callbacks", reason).into());
        }
        let turn = Turn::next();
        let answers = callbacks.iter().map(|sent| async move {
            let callback = validate::callback(sent)?;
            convert::callback_answer(callback, self.0.callbacks.store_one_of(turn, callback).await)
        });
        let answers = join_all(answers).await;
        let errors = callbacks.iter().zip(answers).filter_map(|(sent, answer)| {
            answer.err().map(|error| convert::callback_error(sent.order_id, error))
        });
        Ok(Response::new(wire::SendOrdersDataCallbackResponse { errors: errors.collect() }))
    }

    type ProcessOrderStreamStream = Pin<Box<dyn Stream<Item = Result<OrderResponse, Status>> + Send>>;

    async fn process_order_stream(
        &self,
        request: Request<Streaming<wire::process_orders_request::OrderRequest>>,
    ) -> Result<Response<Self::ProcessOrderStreamStream>, Status> {
        self.0.check_running()?;
        let timeout = grpc::timeout(request.metadata().as_ref()).map(|timeout| timeout.min(LONGEST));
        // With a deadline of its own the stream's time is the orders' time.
        let per_order = timeout.unwrap_or(answer_within(self.0.limits.deadline));
        let deadline = timeout.map(|timeout| Instant::now() + answer_within(timeout));
        let answers = stream::process(self.0.clone(), request.into_inner(), per_order, deadline);
        Ok(Response::new(Box::pin(answers)))
    }

    async fn get_order(
        &self,
        request: Request<wire::GetOrderRequest>,
    ) -> Result<Response<wire::Order>, Status> {
        Ok(Response::new(read::get(&self.0, request.into_inner().order_id).await?))
    }

    async fn list_orders(
        &self,
        request: Request<wire::ListOrdersRequest>,
    ) -> Result<Response<wire::ListOrdersResponse>, Status> {
        Ok(Response::new(read::list(&self.0, request.into_inner()).await?))
    }

    async fn retry_order(
        &self,
        request: Request<wire::RetryOrderRequest>,
    ) -> Result<Response<wire::Order>, Status> {
        let order_id = request.into_inner().order_id;
        let rooms = self.0.clone();
        uncancelled(async move {
            let retried = retry(&rooms.pool, &rooms.jobs, order_id).await;
            retried.map_err(|error| convert::retry_error(order_id, error))?;
            read::get(&rooms, order_id).await
        })
        .await
    }

    async fn retry_orders(
        &self,
        request: Request<wire::RetryOrdersRequest>,
    ) -> Result<Response<wire::RetryOrdersResponse>, Status> {
        let request = request.into_inner();
        let which = validate::retried(&request)?;
        let rooms = self.0.clone();
        uncancelled(async move { retries::retry(&rooms, which, request.dry_run).await }).await
    }
}
