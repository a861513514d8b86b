//! Test double of an order service: records callbacks and answers them by a plan.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proto::order_service::order_service_server::{OrderService as Contract, OrderServiceServer};
use proto::order_service::process_orders_request::OrderRequest;
use proto::order_service::process_orders_response::OrderResponse;
use proto::order_service::*;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic::{Code, Request, Response, Status, Streaming};

/// Reaction to a callback.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    Accept,
    Refuse(Code),
    /// Accepts, but the answer is lost.
    AcceptInSilence,
    /// Accepts once the gate is open.
    AtTheGate,
}

/// A received callback, accepted or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    pub order_id: i32,
    pub data: (i32, i32),
    pub in_batch: bool,
    pub accepted: bool,
}

type Plan = Box<dyn Fn(i32, usize) -> Answer + Send + Sync>;

struct State {
    plan: Plan,
    received: Mutex<Vec<Received>>,
    changed: watch::Sender<()>,
    gate: watch::Sender<bool>,
    knows_batches: AtomicBool,
    batches: AtomicUsize,
    unimplemented: AtomicUsize,
}

/// A running test double.
pub struct OrderService {
    pub address: String,
    state: Arc<State>,
    stop: CancellationToken,
    server: tokio::task::JoinHandle<()>,
}

impl OrderService {
    /// Accepts every callback.
    pub async fn accepting() -> Self {
        Self::planned(|_, _| Answer::Accept).await
    }

    /// Answers by `plan`, which gets the order id and the number of earlier callbacks for it.
    pub async fn planned(plan: impl Fn(i32, usize) -> Answer + Send + Sync + 'static) -> Self {
        Self::on("127.0.0.1:0", true, plan).await
    }

    /// Listens on `address`, with or without the batch call.
    pub async fn on(
        address: &str,
        knows_batches: bool,
        plan: impl Fn(i32, usize) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let state = Arc::new(State {
            plan: Box::new(plan),
            received: Mutex::default(),
            changed: watch::Sender::new(()),
            gate: watch::Sender::new(false),
            knows_batches: AtomicBool::new(knows_batches),
            batches: AtomicUsize::new(0),
            unimplemented: AtomicUsize::new(0),
        });
        let stop = CancellationToken::new();
        let service = OrderServiceServer::new(Service(Arc::clone(&state)));
        let server = Server::builder().add_service(service);
        let stopped = stop.clone().cancelled_owned();
        let server = tokio::spawn(async move {
            server
                .serve_with_incoming_shutdown(TcpListenerStream::new(listener), stopped)
                .await
                .unwrap();
        });
        Self { address, state, stop, server }
    }

    /// All received callbacks, in order.
    pub fn received(&self) -> Vec<Received> {
        self.state.received.lock().unwrap().clone()
    }

    /// Number of callbacks for this order.
    pub fn count(&self, order_id: i32) -> usize {
        self.received().iter().filter(|received| received.order_id == order_id).count()
    }

    /// Number of accepted callbacks for this order.
    pub fn accepted(&self, order_id: i32) -> usize {
        let is = |received: &&Received| received.order_id == order_id && received.accepted;
        self.received().iter().filter(is).count()
    }

    /// Numbers of batch calls answered, and answered with `UNIMPLEMENTED`.
    pub fn batches(&self) -> (usize, usize) {
        (self.state.batches.load(SeqCst), self.state.unimplemented.load(SeqCst))
    }

    /// Releases all calls that wait at the gate.
    pub fn open_gate(&self) {
        self.state.gate.send_replace(true);
    }

    /// Waits until the received callbacks satisfy `wanted`.
    pub async fn until(&self, what: &str, wanted: impl Fn(&[Received]) -> bool) {
        let mut changed = self.state.changed.subscribe();
        let wait = async {
            while !wanted(&self.received()) {
                changed.changed().await.unwrap();
            }
        };
        if tokio::time::timeout(Duration::from_secs(8), wait).await.is_err() {
            panic!("not within 8 s: {what}; received {:?}", self.received());
        }
    }

    /// Waits for `count` callbacks.
    pub async fn until_count(&self, count: usize) {
        self.until(&format!("{count} callbacks"), |received| received.len() >= count).await;
    }

    /// Stops, and frees the address.
    pub async fn stop(self) -> String {
        self.stop.cancel();
        self.server.await.unwrap();
        self.address
    }
}

struct Service(Arc<State>);

impl Service {
    async fn take(
        &self,
        callback: SendOrderDataCallbackRequest,
        in_batch: bool,
    ) -> Result<(), Status> {
        let SendOrderDataCallbackRequest { order_id, storage_id, pickup_point_id } = callback;
        let (answer, place) = {
            let mut received = self.0.received.lock().unwrap();
            let earlier = received.iter().filter(|received| received.order_id == order_id).count();
            let answer = (self.0.plan)(order_id, earlier);
            let accepted = matches!(answer, Answer::Accept | Answer::AcceptInSilence);
            received.push(Received {
                order_id,
                data: (storage_id, pickup_point_id),
                in_batch,
                accepted,
            });
            (answer, received.len() - 1)
        };
        self.0.changed.send_replace(());
        match answer {
            Answer::Accept => Ok(()),
            Answer::Refuse(code) => Err(Status::new(code, "refused by plan")),
            Answer::AcceptInSilence => Err(Status::unavailable("the answer was lost")),
            Answer::AtTheGate => {
                self.0.gate.subscribe().wait_for(|open| *open).await.unwrap();
                self.0.received.lock().unwrap()[place].accepted = true;
                self.0.changed.send_replace(());
                Ok(())
            }
        }
    }
}

#[tonic::async_trait]
impl Contract for Service {
    async fn send_order_data_callback(
        &self,
        request: Request<SendOrderDataCallbackRequest>,
    ) -> Result<Response<()>, Status> {
        self.take(request.into_inner(), false).await.map(Response::new)
    }

    async fn send_orders_data_callback(
        &self,
        request: Request<SendOrdersDataCallbackRequest>,
    ) -> Result<Response<SendOrdersDataCallbackResponse>, Status> {
        if !self.0.knows_batches.load(SeqCst) {
            self.0.unimplemented.fetch_add(1, SeqCst);
            return Err(Status::unimplemented("an old order service"));
        }
        self.0.batches.fetch_add(1, SeqCst);
        let mut errors = Vec::new();
        for callback in request.into_inner().callbacks {
            if let Err(status) = self.take(callback, true).await {
                let (code, message) = (status.code().into(), status.message().to_owned());
                errors.push(CallbackError { order_id: callback.order_id, code, message });
            }
        }
        Ok(Response::new(SendOrdersDataCallbackResponse { errors }))
    }

    async fn process_orders(
        &self,
        _: Request<ProcessOrdersRequest>,
    ) -> Result<Response<ProcessOrdersResponse>, Status> {
        Err(Status::unimplemented("records only"))
    }

    type ProcessOrderStreamStream = ReceiverStream<Result<OrderResponse, Status>>;

    async fn process_order_stream(
        &self,
        _: Request<Streaming<OrderRequest>>,
    ) -> Result<Response<Self::ProcessOrderStreamStream>, Status> {
        Err(Status::unimplemented("records only"))
    }

    async fn get_order(&self, _: Request<GetOrderRequest>) -> Result<Response<Order>, Status> {
        Err(Status::unimplemented("records only"))
    }

    async fn list_orders(
        &self,
        _: Request<ListOrdersRequest>,
    ) -> Result<Response<ListOrdersResponse>, Status> {
        Err(Status::unimplemented("records only"))
    }

    async fn retry_order(&self, _: Request<RetryOrderRequest>) -> Result<Response<Order>, Status> {
        Err(Status::unimplemented("records only"))
    }

    async fn retry_orders(
        &self,
        _: Request<RetryOrdersRequest>,
    ) -> Result<Response<RetryOrdersResponse>, Status> {
        Err(Status::unimplemented("records only"))
    }
}
