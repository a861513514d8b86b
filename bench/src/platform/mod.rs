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

pub use cluster::{Cluster, pool};
pub use database::{Database, ServerSettings, options};
pub use meter::{Meter, Used};
pub use ports::{free as free_ports, listening};
pub use process::Process;
pub use programs::Programs;
pub use usage::{
    cluster_cpu_seconds, cpu_seconds, folder_bytes, peak_memory_mb, proportional_memory_mb,
};

use crate::load::Http;
use crate::suite::Session;

/// Timeout for startup and readiness on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Command-line settings of the services.
#[derive(Debug, Clone, Default)]
pub struct Terms {
    order_service: Vec<String>,
    data_manager: Vec<String>,
    alone: bool,
}

impl Terms {
    /// The default settings.
    pub fn usual() -> Self {
        Self::default()
    }

    /// Adds a flag of the order service.
    pub fn with(mut self, flag: &str, value: &str) -> Self {
        self.order_service.extend([flag.to_owned(), value.to_owned()]);
        self
    }

    /// Adds a flag of the data manager.
    pub fn manager(mut self, flag: &str, value: &str) -> Self {
        self.data_manager.extend([flag.to_owned(), value.to_owned()]);
        self
    }

    /// Does not start a data manager; for loads without orders.
    pub fn without_manager(mut self) -> Self {
        self.alone = true;
        self
    }
}

/// Both services, running. On drop they are stopped and their data is removed.
pub struct Platform {
    order_service: Process,
    data_manager: Option<Process>,
    folder: TempDir,
    /// gRPC port of the order service.
    pub grpc: u16,
    /// HTTP port of the order service.
    pub http: u16,
    manager_port: u16,
    terms: Terms,
    /// Time from starting the processes until the order service is ready.
    pub ready_after: Duration,
}

impl Platform {
    /// Starts both services and waits until they are ready.
    pub async fn start(session: &Session, terms: Terms) -> anyhow::Result<Self> {
        let folder = session.folder("platform")?;
        let [grpc, http, manager_port] = free_ports()?;
        let started = Instant::now();
        let data_manager = match terms.alone {
            true => None,
            false => Some(start_manager(session, &terms, folder.path(), grpc, manager_port)?),
        };
        let order_service =
            start_service(session, &terms, folder.path(), [grpc, http, manager_port])?;
        let mut platform = Self {
            order_service,
            data_manager,
            folder,
            grpc,
            http,
            manager_port,
            terms,
            ready_after: Duration::ZERO,
        };
        platform.wait_until_ready(started).await?;
        Ok(platform)
    }

    /// Restarts the order service on the same data with other settings.
    pub async fn restart(&mut self, session: &Session, terms: Terms) -> anyhow::Result<()> {
        self.terms = terms;
        self.order_service.stop();
        database::wait_until_ended(&self.data_dir());
        let started = Instant::now();
        let ports = [self.grpc, self.http, self.manager_port];
        self.order_service = start_service(session, &self.terms, self.folder.path(), ports)?;
        self.wait_until_ready(started).await
    }

    /// Stops the data manager; it can be started again.
    pub fn stop_manager(&mut self) {
        self.data_manager = None;
    }

    /// Starts the data manager (again).
    pub async fn start_manager(&mut self, session: &Session) -> anyhow::Result<()> {
        let folder = self.folder.path();
        let manager = start_manager(session, &self.terms, folder, self.grpc, self.manager_port)?;
        self.data_manager = Some(manager);
        listening(self.manager_port, PATIENCE, || Ok(())).await
    }

    async fn wait_until_ready(&mut self, started: Instant) -> anyhow::Result<()> {
        listening(self.http, PATIENCE, || self.order_service.check_alive()).await?;
        let mut http = Http::connect(self.http).await?;
        while http.get("/readyz").await?.0 != 200 {
            self.check_alive()?;
            anyhow::ensure!(
                started.elapsed() < PATIENCE,
                "the order service is not ready after {PATIENCE:?}"
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.ready_after = started.elapsed();
        if self.data_manager.is_some() {
            listening(self.manager_port, PATIENCE, || Ok(())).await?;
        }
        self.check_alive()
    }

    /// Fails if one of the services has exited.
    pub fn check_alive(&mut self) -> anyhow::Result<()> {
        self.data_manager.as_mut().map_or(Ok(()), Process::check_alive)?;
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
    pub async fn meter(&self) -> anyhow::Result<Meter> {
        let mut processes = vec![("order_service", self.order_service.pid())];
        processes.extend(self.data_manager.as_ref().map(|manager| ("data_manager", manager.pid())));
        processes.push(("bench", std::process::id()));
        Ok(Meter::new(processes, Some(Database::connect(&self.data_dir()).await?)))
    }
}

impl Drop for Platform {
    fn drop(&mut self) {
        // The order service first: its orders in flight still need the data manager.
        self.order_service.stop();
        database::wait_until_ended(&self.data_dir());
    }
}

fn data_dir(folder: &Path) -> PathBuf {
    folder.join("data")
}

fn start_manager(
    session: &Session,
    terms: &Terms,
    folder: &Path,
    order_port: u16,
    port: u16,
) -> anyhow::Result<Process> {
    let mut args = flags(&[
        ("--listen", "127.0.0.1"),
        ("--app-port", &port.to_string()),
        ("--order-address", &format!("127.0.0.1:{order_port}")),
        ("--seed", "1"),
    ]);
    args.extend(terms.data_manager.iter().cloned());
    Process::start("data_manager", &session.programs.data_manager, &args, folder)
}

fn start_service(
    session: &Session,
    terms: &Terms,
    folder: &Path,
    [grpc, http, manager]: [u16; 3],
) -> anyhow::Result<Process> {
    let mut args = flags(&[
        ("--listen", "127.0.0.1"),
        ("--app-port", &grpc.to_string()),
        ("--http-port", &http.to_string()),
        ("--data-manager-address", &format!("127.0.0.1:{manager}")),
        ("--data-dir", &data_dir(folder).to_string_lossy()),
    ]);
    args.extend(terms.order_service.iter().cloned());
    Process::start("order_service", &session.programs.order_service, &args, folder)
}

fn flags(pairs: &[(&str, &str)]) -> Vec<String> {
    pairs.iter().flat_map(|(flag, value)| [(*flag).to_owned(), (*value).to_owned()]).collect()
}
