//! Test client of an in-process data manager.

use std::collections::BTreeMap;
use std::time::Duration;

use data_manager::{DataManagerSettings, DeliveryCounts, RunningDataManager};
use proto::data_manager::data_manager_client::DataManagerClient;
use proto::data_manager::{GetOrderDataCallbackRequest, GetOrdersDataCallbackRequest, OrderError};
use serving::peer::PeerChannel;
use tonic::{Code, Status};

use crate::order_service::OrderService;

/// A running data manager and a client for it.
pub struct Manager {
    pub manager: RunningDataManager,
    pub client: DataManagerClient<PeerChannel>,
}

/// Settings with callbacks to these order services.
pub fn settings(services: &[&OrderService]) -> DataManagerSettings {
    DataManagerSettings::in_process(
        services.iter().map(|service| service.address.clone()).collect(),
    )
}

impl Manager {
    pub async fn start(settings: DataManagerSettings) -> Self {
        let manager = RunningDataManager::start(settings).await.unwrap();
        let client = DataManagerClient::new(channel(manager.port()));
        Self { manager, client: client.max_decoding_message_size(usize::MAX) }
    }

    /// Starts with default settings.
    pub async fn of(service: &OrderService) -> Self {
        Self::start(settings(&[service])).await
    }

    pub async fn ask(&self, order_id: i32) -> Result<(), Status> {
        let request = GetOrderDataCallbackRequest { order_id };
        self.client.clone().get_order_data_callback(request).await.map(|_| ())
    }

    /// Code and message of a refused question.
    pub async fn refusal(&self, order_id: i32) -> (Code, String) {
        let status = self.ask(order_id).await.unwrap_err();
        (status.code(), status.message().to_owned())
    }

    pub async fn ask_all(&self, order_ids: impl IntoIterator<Item = i32>) -> Vec<OrderError> {
        let request = GetOrdersDataCallbackRequest { order_ids: order_ids.into_iter().collect() };
        self.client.clone().get_orders_data_callback(request).await.unwrap().into_inner().errors
    }

    /// All assignments; checks that they are sorted.
    pub async fn given(&self) -> BTreeMap<i32, (i32, i32)> {
        let orders = self.client.clone().get_orders_data(()).await.unwrap().into_inner().orders;
        assert!(orders.is_sorted_by(|a, b| a.order_id < b.order_id));
        orders
            .iter()
            .map(|order| (order.order_id, (order.storage_id, order.pickup_point_id)))
            .collect()
    }

    /// Waits until the counts satisfy `wanted`.
    pub async fn until(&self, wanted: impl Fn(DeliveryCounts) -> bool) {
        let wait = async {
            while !wanted(self.manager.counts()) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        if tokio::time::timeout(Duration::from_secs(8), wait).await.is_err() {
            panic!("not within 8 s; {:?}", self.manager.counts());
        }
    }
}

pub fn channel(port: u16) -> PeerChannel {
    serving::peer::GrpcPeer::at_address(&format!("127.0.0.1:{port}")).unwrap().channel
}

/// An address that is not listened on.
pub async fn free_address() -> String {
    tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string()
}
