//! The two processes of [`super::exchange`]: one accepts orders and asks about each, the other
//! answers by a callback. Protocol and gRPC settings are those of the services; there is no
//! database, pipeline or ledger.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use futures::StreamExt as _;
use proto::data_manager as data_manager_api;
use proto::data_manager::data_manager_client::DataManagerClient;
use proto::data_manager::data_manager_server::{DataManager, DataManagerServer};
use proto::order_service as api;
use proto::order_service::order_service_client::OrderServiceClient;
use proto::order_service::order_service_server::{OrderService, OrderServiceServer};
use proto::order_service::process_orders_response::OrderResponse;
use serving::http_guard::AllowedHosts;
use serving::listen::{LOOPBACK_ADDRESSES, PortListeners};
use serving::peer::{GrpcPeer, PeerChannel};
use serving::scoped_rpcs::ScopedRpcs;
use serving::server::{
    ByteBudget, ClientLimiter, ConnectionLimits, ListenerProtocol, ServerOptions,
};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::{Request, Response, Status, Streaming};

/// Concurrent exchanges per request: the fastest value found.
const MAX_CONCURRENT_EXCHANGES: usize = 128;

type PendingCallbacks = Mutex<HashMap<i32, oneshot::Sender<(i32, i32)>>>;

/// Runs the asking process on `port`; the other one listens on `peer`.
pub async fn run_asker(port: u16, peer: u16) -> anyhow::Result<()> {
    let client = DataManagerClient::new(open_channel(peer)?);
    let service = OrderServiceServer::new(ExchangeAsker { client, pending: Arc::default() });
    let service = service.max_decoding_message_size(16 << 20).max_encoding_message_size(16 << 20);
    let listeners = PortListeners::bind(&LOOPBACK_ADDRESSES[..1], port, "--port").await?;
    serve_routes(listeners, Routes::new(service)).await;
    Ok(())
}

/// Runs the answering process on `port`; the other one listens on `peer`.
pub async fn run_answerer(port: u16, peer: u16) -> anyhow::Result<()> {
    let service = DataManagerServer::new(ExchangeAnswerer {
        client: OrderServiceClient::new(open_channel(peer)?),
    });
    let listeners = PortListeners::bind(&LOOPBACK_ADDRESSES[..1], port, "--port").await?;
    serve_routes(listeners, Routes::new(service)).await;
    Ok(())
}

async fn serve_routes(listeners: PortListeners, routes: Routes) {
    let limits = ConnectionLimits::default().with_max_message_bytes(16 << 20);
    let hosts = AllowedHosts::with_loopback([]);
    let options = ServerOptions {
        protocol: ListenerProtocol::Grpc,
        hosts,
        limits,
        budget: ByteBudget::default(),
        client_limiter: ClientLimiter::default(),
        access: None,
        tls: None,
    };
    serving::server::serve_routes(
        listeners,
        ScopedRpcs::new(routes, &[]),
        options,
        CancellationToken::new(),
    )
    .wait_until_closed()
    .await;
}

fn open_channel(port: u16) -> anyhow::Result<PeerChannel> {
    Ok(GrpcPeer::at_address(&format!("127.0.0.1:{port}")).map_err(anyhow::Error::msg)?.channel)
}

struct ExchangeAnswerer {
    client: OrderServiceClient<PeerChannel>,
}

#[tonic::async_trait]
impl DataManager for ExchangeAnswerer {
    async fn get_order_data_callback(
        &self,
        request: Request<data_manager_api::GetOrderDataCallbackRequest>,
    ) -> Result<Response<()>, Status> {
        let order_id = request.into_inner().order_id;
        let callback =
            api::SendOrderDataCallbackRequest { order_id, storage_id: 1, pickup_point_id: 1 };
        self.client.clone().send_order_data_callback(callback).await
    }

    async fn get_orders_data(
        &self,
        _: Request<()>,
    ) -> Result<Response<data_manager_api::GetOrdersDataResponse>, Status> {
        Err(unimplemented_status())
    }

    async fn get_orders_data_callback(
        &self,
        _: Request<data_manager_api::GetOrdersDataCallbackRequest>,
    ) -> Result<Response<data_manager_api::GetOrdersDataCallbackResponse>, Status> {
        Err(unimplemented_status())
    }
}

#[derive(Clone)]
struct ExchangeAsker {
    client: DataManagerClient<PeerChannel>,
    pending: Arc<PendingCallbacks>,
}

impl ExchangeAsker {
    async fn exchange_order(self, order_id: i32, product_id: i32) -> Result<OrderResponse, Status> {
        let (sender, callback) = oneshot::channel();
        self.pending.lock().unwrap_or_else(PoisonError::into_inner).insert(order_id, sender);
        let question = data_manager_api::GetOrderDataCallbackRequest { order_id };
        self.client.clone().get_order_data_callback(question).await?;
        let data = callback.await.map_err(|_| Status::internal("no callback"))?;
        let (storage_id, pickup_point_id) = data;
        Ok(OrderResponse { order_id, product_id, storage_id, pickup_point_id, is_processed: true })
    }
}

#[tonic::async_trait]
impl OrderService for ExchangeAsker {
    type ProcessOrderStreamStream = futures::stream::Empty<Result<OrderResponse, Status>>;

    async fn process_orders(
        &self,
        request: Request<api::ProcessOrdersRequest>,
    ) -> Result<Response<api::ProcessOrdersResponse>, Status> {
        let orders = request.into_inner().orders;
        let exchanges = orders
            .into_iter()
            .map(|order| self.clone().exchange_order(order.order_id, order.product_id));
        let answers: Vec<_> = futures::stream::iter(exchanges)
            .buffer_unordered(MAX_CONCURRENT_EXCHANGES)
            .collect()
            .await;
        let processed_orders = answers.into_iter().collect::<Result<_, _>>()?;
        Ok(Response::new(api::ProcessOrdersResponse { processed_orders }))
    }

    async fn send_order_data_callback(
        &self,
        request: Request<api::SendOrderDataCallbackRequest>,
    ) -> Result<Response<()>, Status> {
        let callback = request.into_inner();
        let sender =
            self.pending.lock().unwrap_or_else(PoisonError::into_inner).remove(&callback.order_id);
        if let Some(sender) = sender {
            let _ = sender.send((callback.storage_id, callback.pickup_point_id));
        }
        Ok(Response::new(()))
    }

    async fn send_orders_data_callback(
        &self,
        _: Request<api::SendOrdersDataCallbackRequest>,
    ) -> Result<Response<api::SendOrdersDataCallbackResponse>, Status> {
        Err(unimplemented_status())
    }

    async fn process_order_stream(
        &self,
        _: Request<Streaming<api::process_orders_request::OrderRequest>>,
    ) -> Result<Response<Self::ProcessOrderStreamStream>, Status> {
        Err(unimplemented_status())
    }

    async fn get_order(
        &self,
        _: Request<api::GetOrderRequest>,
    ) -> Result<Response<api::Order>, Status> {
        Err(unimplemented_status())
    }

    async fn list_orders(
        &self,
        _: Request<api::ListOrdersRequest>,
    ) -> Result<Response<api::ListOrdersResponse>, Status> {
        Err(unimplemented_status())
    }

    async fn retry_order(
        &self,
        _: Request<api::RetryOrderRequest>,
    ) -> Result<Response<api::Order>, Status> {
        Err(unimplemented_status())
    }

    async fn retry_orders(
        &self,
        _: Request<api::RetryOrdersRequest>,
    ) -> Result<Response<api::RetryOrdersResponse>, Status> {
        Err(unimplemented_status())
    }
}

fn unimplemented_status() -> Status {
    Status::unimplemented("this program only measures the exchange")
}
