//! Running data manager: starts from settings, in the program or in a test process, and shuts down
//! in order.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use access::AccessControl;
use proto::data_manager::data_manager_server::DataManagerServer;
use serving::http_guard::AllowedHosts;
use serving::listen::{ListenError, PortListeners, check_exposure};
use serving::scoped_rpcs::ScopedRpcs;
use serving::server::{
    ByteBudget, ConnectionLimits, ListenerProtocol, MAX_MESSAGE_BYTES, RunningServer,
    ServerOptions as RouteServerOptions, raise_file_limit,
};
use serving::tls::ServerTls;
use settings::SettingError;
use store::{ConnectError, MigrationError, MigrationSet, PoolSettings};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tonic::server::NamedService as _;
use tonic::service::Routes;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::api::{DATA_MANAGER_RPCS, DataManagerApi};
use crate::assignments::{AssignmentStore, PgAssignments};
use crate::background::{BackgroundDelivery, DeliveryContext};
use crate::callbacks::OrderServices;
use crate::counters::{DeliveryCounters, DeliveryCounts};
use crate::exchange::QuestionHandler;
use crate::misbehaviour::MisbehaviourSource;
use crate::settings::DataManagerSettings;

type DataManagerService = DataManagerServer<DataManagerApi>;

/// Timeout of the whole shutdown, and its part reserved for the last callbacks.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
const LAST_CALLBACKS_TIMEOUT: Duration = Duration::from_secs(3);
/// File descriptors reserved for the database and the order services.
const RESERVED_FILE_COUNT: u64 = 64;
/// Concurrent streams of one connection. An order service has one connection and may ask one order
/// per call (`--exchange single`); further calls queue on its side.
const MAX_CONCURRENT_QUESTIONS: u32 = 2_000;
/// Health watchers keep a stream open forever. They see `NOT_SERVING` for this long after the stop,
/// then their streams are closed.
const HEALTH_WATCHERS_TIMEOUT: Duration = Duration::from_millis(200);

/// Why a data manager cannot start.
#[derive(Debug, thiserror::Error)]
pub enum DataManagerStartError {
    /// Invalid address of an order service.
    #[error("order service address {0}")]
    Address(String),
    /// A file that a setting names cannot be used.
    #[error(transparent)]
    Setting(#[from] SettingError),
    /// The port cannot be bound.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// No address of `--listen` exists on this machine.
    #[error("none of the addresses of --listen exists on this machine")]
    NowhereToListen,
    /// The database is unreachable or refuses the connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The database has an older schema.
    #[error(
        "the database is at schema version {found}, this program needs {needed}: run \
         `data_manager migrate` with the same --database-url first"
    )]
    SchemaTooOld {
        /// Schema version found; 0 for an empty database.
        found: i64,
        /// Schema version that this program needs.
        needed: i64,
    },
    /// Any other problem with the schema.
    #[error(transparent)]
    Schema(MigrationError),
    /// Bug: the embedded descriptor set is invalid.
    #[error("reflection: {0}")]
    Reflection(String),
}

impl DataManagerStartError {
    /// Whether the settings cause the error, rather than the environment.
    pub fn is_usage_error(&self) -> bool {
        match self {
            Self::Address(_) | Self::Setting(_) => true,
            Self::Listen(error) => error.is_usage_error(),
            _ => false,
        }
    }
}

impl From<MigrationError> for DataManagerStartError {
    fn from(error: MigrationError) -> Self {
        match error {
            MigrationError::TooOld { found, needed, .. } => Self::SchemaTooOld { found, needed },
            other => Self::Schema(other),
        }
    }
}

/// A serving data manager.
pub struct RunningDataManager {
    addresses: Vec<SocketAddr>,
    counters: Arc<DeliveryCounters>,
    health: HealthReporter,
    /// Cancelled to stop accepting questions.
    closing: CancellationToken,
    server: RunningServer,
    /// Cancelled to stop delivering callbacks.
    finishing: CancellationToken,
    deliveries: JoinHandle<()>,
}

impl RunningDataManager {
    /// Starts a data manager; it serves when this returns. Needs a tokio runtime, and ends with it.
    pub async fn start(settings: DataManagerSettings) -> Result<Self, DataManagerStartError> {
        check_exposure(&settings.listen, settings.access.exposure_permits())?;
        let counters = Arc::new(DeliveryCounters::default());
        let (access, token) = (settings.access.open_clients()?, settings.access.open_peer_token()?);
        let (tls, peer_tls) =
            (settings.access.tls.open_server()?, settings.access.tls.open_peer()?);
        let services = OrderServices::new(
            &settings.order_addresses,
            &token,
            peer_tls.as_ref(),
            Arc::clone(&counters),
        );
        let services = services.map_err(DataManagerStartError::Address)?;
        // Boxed: most of what starting takes.
        let book = Box::pin(open_assignment_store(&settings)).await?;
        let listeners =
            PortListeners::bind(&settings.listen, settings.app_port, "--app-port").await?;
        let addresses = listeners.addresses();
        if addresses.is_empty() {
            return Err(DataManagerStartError::NowhereToListen);
        }
        let options = server_options(&settings, access, tls);
        let DataManagerSettings { once, delivery_options, mode, misbehaviour, seed, .. } = settings;
        if once && misbehaviour.duplicate_rate > 0.0 {
            tracing::warn!("--once sends nothing twice: --duplicate-callback-rate is ignored");
        }
        let work = Arc::new(DeliveryContext {
            assignments: book,
            services,
            once,
            options: delivery_options,
            counters: Arc::clone(&counters),
        });
        let (closing, finishing) = (CancellationToken::new(), CancellationToken::new());
        let (background, deliveries) =
            BackgroundDelivery::start(Arc::clone(&work), finishing.clone());
        let fates = MisbehaviourSource::new(seed, misbehaviour);
        let exchange =
            Arc::new(QuestionHandler { context: work, background, misbehaviour: fates, mode });
        let (server, health) =
            serve_grpc(DataManagerApi(exchange), listeners, options, closing.clone()).await?;
        tracing::info!(?addresses, seed = seed.0, %mode, once, "data manager ready");
        Ok(Self { addresses, counters, health, closing, server, finishing, deliveries })
    }

    /// Port of the gRPC listener.
    pub fn port(&self) -> u16 {
        self.addresses.first().map_or(0, SocketAddr::port)
    }

    /// Addresses that it listens on.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Counts since the start.
    pub fn counts(&self) -> DeliveryCounts {
        self.counters.snapshot()
    }

    /// Shuts down within ten seconds: reports `NOT_SERVING` immediately, answers open questions,
    /// sends callbacks that were never tried.
    pub async fn stop(mut self) -> DeliveryCounts {
        let deadline = Instant::now() + STOP_TIMEOUT;
        for name in ["", DataManagerService::NAME] {
            self.health.set_service_status(name, ServingStatus::NotServing).await;
        }
        self.closing.cancel();
        if timeout(HEALTH_WATCHERS_TIMEOUT, self.server.wait_until_closed()).await.is_err() {
            for name in ["", DataManagerService::NAME] {
                self.health.clear_service_status(name).await;
            }
            if timeout_at(deadline - LAST_CALLBACKS_TIMEOUT, self.server.wait_until_closed())
                .await
                .is_err()
            {
                tracing::warn!("some questions are still open: they are cut off");
                self.server.close_connections();
            }
        }
        self.finishing.cancel();
        if timeout_at(deadline, &mut self.deliveries).await.is_err() {
            tracing::warn!("some callbacks are still under way: they are cut off");
            self.deliveries.abort();
        }
        self.counts()
    }
}

async fn open_assignment_store(
    settings: &DataManagerSettings,
) -> Result<AssignmentStore, DataManagerStartError> {
    let Some(options) = &settings.database else {
        return Ok(AssignmentStore::in_memory(settings.seed));
    };
    let pool_settings = PoolSettings {
        // One each for assignments, delivery marks and lists, and one spare.
        name: "book",
        max_connections: 4,
        connect_timeout: settings.startup_timeout,
        application_name: "data_manager".to_owned(),
        session: Vec::new(),
    };
    let pool = store::connect_pool(options.clone(), &pool_settings).await?;
    store::wait_until_writable(&pool, settings.startup_timeout).await?;
    let mut connection = pool.acquire().await.map_err(|error| ConnectError::Unreachable {
        database: "the database".to_owned(),
        reason: error.to_string(),
        waited: Duration::ZERO,
    })?;
    MigrationSet::data_manager().apply_if_empty(&mut connection).await?;
    drop(connection);
    Ok(AssignmentStore::Postgres(PgAssignments::new(pool, settings.seed)))
}

fn server_options(
    settings: &DataManagerSettings,
    access: Option<AccessControl>,
    tls: Option<ServerTls>,
) -> RouteServerOptions {
    RouteServerOptions {
        protocol: ListenerProtocol::Grpc,
        hosts: AllowedHosts::with_loopback(settings.allowed_hosts.iter().cloned()),
        limits: ConnectionLimits::for_open_files(raise_file_limit(), RESERVED_FILE_COUNT, 1)
            .with_max_streams(MAX_CONCURRENT_QUESTIONS),
        budget: ByteBudget::default(),
        client_limiter: settings.access.client_limiter(),
        access,
        tls,
    }
}

async fn serve_grpc(
    api: DataManagerApi,
    listeners: PortListeners,
    options: RouteServerOptions,
    closing: CancellationToken,
) -> Result<(RunningServer, HealthReporter), DataManagerStartError> {
    // The list of all orders exceeds any usual message limit.
    let service = DataManagerServer::new(api)
        .accept_compressed(serving::grpc::GZIP)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(usize::MAX);
    let (routes, health) = serving::grpc::with_reflection_and_health(Routes::new(service))
        .map_err(|error| DataManagerStartError::Reflection(error.to_string()))?;
    health.set_serving::<DataManagerService>().await;
    Ok((
        serving::server::serve_routes(
            listeners,
            ScopedRpcs::new(routes, &DATA_MANAGER_RPCS),
            options,
            closing,
        ),
        health,
    ))
}
