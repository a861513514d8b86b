//! The platform under test: release builds of both services as child processes on free loopback
//! ports, with a new data directory and embedded Postgres with fsync on.

mod cluster;
mod database;
mod meter;
mod ports;
mod process;
mod programs;
mod usage;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tempfile::TempDir;

pub use cluster::{BenchCluster, open_pool};
pub use database::{PgStatsConnection, ServerSettings, connect_options};
pub use meter::{ResourceMeter, ResourceUsage};
pub use ports::{find_free_ports, wait_until_listening};
pub use process::ChildProcess;
pub use programs::ProgramPaths;
pub use usage::{
    cluster_cpu_seconds, cpu_seconds, folder_bytes, peak_memory_mb, proportional_memory_mb,
};

use crate::load::LoadHttpClient;
use crate::suite::BenchSession;

/// Timeout for startup and readiness on a busy machine.
const READY_TIMEOUT: Duration = Duration::from_secs(60);

/// Command-line settings of the services.
#[derive(Debug, Clone, Default)]
pub struct PlatformOptions {
    order_service_flags: Vec<String>,
    data_manager_flags: Vec<String>,
    no_data_manager: bool,
}

impl PlatformOptions {
    /// The default settings.
    pub fn standard() -> Self {
        Self::default()
    }

    /// Adds a flag of the order service.
    pub fn with_flag(mut self, flag: &str, value: &str) -> Self {
        self.order_service_flags.extend([flag.to_owned(), value.to_owned()]);
        self
    }

    /// Adds a flag of the data manager.
    pub fn with_manager_flag(mut self, flag: &str, value: &str) -> Self {
        self.data_manager_flags.extend([flag.to_owned(), value.to_owned()]);
        self
    }

    /// Does not start a data manager; for loads without orders.
    pub fn without_manager(mut self) -> Self {
        self.no_data_manager = true;
        self
    }
}

/// Both services, running. On drop they are stopped and their data is removed.
pub struct Platform {
    order_service: ChildProcess,
    data_manager: Option<ChildProcess>,
    folder: TempDir,
    /// gRPC port of the order service.
    pub grpc_port: u16,
    /// HTTP port of the order service.
    pub http_port: u16,
    manager_port: u16,
    options: PlatformOptions,
    /// Time from starting the processes until the order service is ready.
    pub ready_after: Duration,
}

impl Platform {
    /// Starts both services and waits until they are ready.
    pub async fn start(session: &BenchSession, options: PlatformOptions) -> anyhow::Result<Self> {
        let folder = session.create_folder("platform")?;
        let [grpc_port, http_port, manager_port] = find_free_ports()?;
        let started = Instant::now();
        let data_manager = match options.no_data_manager {
            true => None,
            false => {
                Some(spawn_data_manager(session, &options, folder.path(), grpc_port, manager_port)?)
            }
        };
        let order_service = spawn_order_service(
            session,
            &options,
            folder.path(),
            [grpc_port, http_port, manager_port],
        )?;
        let mut platform = Self {
            order_service,
            data_manager,
            folder,
            grpc_port,
            http_port,
            manager_port,
            options,
            ready_after: Duration::ZERO,
        };
        platform.wait_until_ready(started).await?;
        Ok(platform)
    }

    /// Restarts the order service on the same data with other settings.
    pub async fn restart(
        &mut self,
        session: &BenchSession,
        options: PlatformOptions,
    ) -> anyhow::Result<()> {
        self.options = options;
        self.order_service.stop();
        database::wait_until_stopped(&self.data_dir());
        let started = Instant::now();
        let ports = [self.grpc_port, self.http_port, self.manager_port];
        self.order_service =
            spawn_order_service(session, &self.options, self.folder.path(), ports)?;
        self.wait_until_ready(started).await
    }

    /// Stops the data manager; it can be started again.
    pub fn stop_manager(&mut self) {
        self.data_manager = None;
    }

    /// Starts the data manager (again).
    pub async fn start_manager(&mut self, session: &BenchSession) -> anyhow::Result<()> {
        let folder = self.folder.path();
        let process =
            spawn_data_manager(session, &self.options, folder, self.grpc_port, self.manager_port)?;
        self.data_manager = Some(process);
        wait_until_listening(self.manager_port, READY_TIMEOUT, || Ok(())).await
    }

    async fn wait_until_ready(&mut self, started: Instant) -> anyhow::Result<()> {
        wait_until_listening(self.http_port, READY_TIMEOUT, || self.order_service.check_alive())
            .await?;
        let mut http = LoadHttpClient::connect(self.http_port).await?;
        while http.get("/readyz").await?.0 != 200 {
            self.check_alive()?;
            anyhow::ensure!(
                started.elapsed() < READY_TIMEOUT,
                "the order service is not ready after {READY_TIMEOUT:?}"
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.ready_after = started.elapsed();
        if self.data_manager.is_some() {
            wait_until_listening(self.manager_port, READY_TIMEOUT, || Ok(())).await?;
        }
        self.check_alive()
    }

    /// Fails if one of the services has exited.
    pub fn check_alive(&mut self) -> anyhow::Result<()> {
        self.data_manager.as_mut().map_or(Ok(()), ChildProcess::check_alive)?;
        self.order_service.check_alive()
    }

    /// Process id of the order service.
    pub fn order_service_pid(&self) -> u32 {
        self.order_service.pid()
    }

    /// Data directory of the order service.
    pub fn data_dir(&self) -> PathBuf {
        data_dir(self.folder.path())
    }

    /// A meter of all processes of the platform and this one.
    pub async fn start_meter(&self) -> anyhow::Result<ResourceMeter> {
        let mut processes = vec![("order_service", self.order_service.pid())];
        processes.extend(self.data_manager.as_ref().map(|manager| ("data_manager", manager.pid())));
        processes.push(("bench", std::process::id()));
        Ok(ResourceMeter::new(processes, Some(PgStatsConnection::connect(&self.data_dir()).await?)))
    }
}

impl Drop for Platform {
    fn drop(&mut self) {
        // The order service first: its orders in flight still need the data manager.
        self.order_service.stop();
        database::wait_until_stopped(&self.data_dir());
    }
}

fn data_dir(folder: &Path) -> PathBuf {
    folder.join("data")
}

fn spawn_data_manager(
    session: &BenchSession,
    options: &PlatformOptions,
    folder: &Path,
    order_port: u16,
    port: u16,
) -> anyhow::Result<ChildProcess> {
    let mut args = flag_args(&[
        ("--listen", "127.0.0.1"),
        ("--app-port", &port.to_string()),
        ("--order-address", &format!("127.0.0.1:{order_port}")),
        ("--seed", "1"),
    ]);
    args.extend(options.data_manager_flags.iter().cloned());
    ChildProcess::start("data_manager", &session.programs.data_manager, &args, folder)
}

fn spawn_order_service(
    session: &BenchSession,
    options: &PlatformOptions,
    folder: &Path,
    [grpc, http, manager]: [u16; 3],
) -> anyhow::Result<ChildProcess> {
    let mut args = flag_args(&[
        ("--listen", "127.0.0.1"),
        ("--app-port", &grpc.to_string()),
        ("--http-port", &http.to_string()),
        ("--data-manager-address", &format!("127.0.0.1:{manager}")),
        ("--data-dir", &data_dir(folder).to_string_lossy()),
    ]);
    args.extend(options.order_service_flags.iter().cloned());
    ChildProcess::start("order_service", &session.programs.order_service, &args, folder)
}

fn flag_args(pairs: &[(&str, &str)]) -> Vec<String> {
    pairs.iter().flat_map(|(flag, value)| [(*flag).to_owned(), (*value).to_owned()]).collect()
}
