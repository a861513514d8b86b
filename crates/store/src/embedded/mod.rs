//! Embedded PostgreSQL for one machine: started by the first process that needs it, shared by all
//! processes with the same data directory, stopped when the last of them ends.
//!
//! - Lifetime: tracked by file locks, which the kernel drops however a process ends. Each user
//!   holds `users.lock` shared. One *keeper* process (this program with the hidden command
//!   [`KEEPER_COMMAND`]) holds `keeper.lock`, runs the server as its child, and waits for
//!   `users.lock` exclusively. Once it has that lock, no user is left, and it stops the server
//!   while new users wait for the same lock.
//!
//! - Paths: the cluster and its socket are in `DATA_DIR/postgres` (mode 0700). Server and clients
//!   use `/proc/self/fd`, so neither long paths nor inaccessible parent directories matter.

mod binaries;
mod failure;
mod initdb;
mod keeper;
mod locks;
mod log;
mod memory;
mod server;

use std::fs::File;
use std::io::Read as _;
use std::os::fd::AsRawFd as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use sqlx::postgres::PgConnectOptions;

use crate::data_dir::{DataDirError, check_own_path, open_data_dir, restrict_to_owner};

pub use keeper::run_keeper;
pub use server::{EmbeddedServer, EmbeddedServerOptions};

/// Hidden command that makes a program the keeper: `PROGRAM keep-postgres DATA_DIR`.
pub const KEEPER_COMMAND: &str = "keep-postgres";

/// Superuser and owner of all objects in an embedded cluster.
pub const CLUSTER_USER: &str = "postgres";

/// Maximum length of a keeper's error message, in bytes.
const MAX_REASON_BYTES: u64 = 16 << 10;

/// Errors of the embedded cluster.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    /// The data directory, or an entry of it, is unusable.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// A program could not be run.
    #[error("running {}: {cause}", path.display())]
    Program {
        /// Path of the program.
        path: PathBuf,
        /// Error of the operating system.
        cause: std::io::Error,
    },
    /// No cluster exists, and the caller does not create one.
    #[error(
        "there is no cluster here: {data_dir} \
         (has a service ever been started with this data dir? --data-dir, or --database-url for a database elsewhere)"
    )]
    NoCluster {
        /// Data directory without a cluster.
        data_dir: PathBuf,
    },
    /// No server binaries are installed.
    #[error(
        "no PostgreSQL server found on PATH or in /usr/lib/postgresql: \
         install it (Debian, Ubuntu: apt-get install postgresql) or give --database-url"
    )]
    NotInstalled,
    /// The binaries of the cluster's version are not installed.
    #[error(
        "the cluster in {} is of PostgreSQL {version}, {}: install it (Debian, Ubuntu: apt-get install \
         postgresql-{version}), or bring the cluster to a version that is there with pg_upgrade",
        cluster.display(), only(installed)
    )]
    OtherVersion {
        /// Directory of the cluster.
        cluster: PathBuf,
        /// Major version of the cluster.
        version: String,
        /// Major versions of the installed servers.
        installed: Vec<String>,
    },
    /// Not enough free space for a new cluster.
    #[error(
        "{} has {free_mib} MiB of free space, and a new PostgreSQL cluster needs {needed_mib}: make room, \
         or give another --data-dir",
        data_dir.display()
    )]
    NoFreeSpace {
        /// Path of the data directory.
        data_dir: PathBuf,
        /// Free space in MiB.
        free_mib: u64,
        /// Required space in MiB.
        needed_mib: u64,
    },
    /// `initdb` refuses a user id without a name.
    #[error(
        "user id {uid} has no name on this machine, which PostgreSQL needs to make a cluster: \
         give it one (useradd --uid {uid} NAME, or a line in /etc/passwd), or give --database-url"
    )]
    NamelessUser {
        /// Effective uid of this process.
        uid: u32,
    },
    /// Running as root requires a system user `postgres`, which does not exist.
    #[error(
        "running as root needs a system user `postgres` for the embedded PostgreSQL (apt-get install postgresql)"
    )]
    NoUser,
    /// The server did not start; its log has details.
    #[error("the embedded PostgreSQL in {data_dir} did not start: {reason}")]
    NotStarted {
        /// Path of the data directory.
        data_dir: PathBuf,
        /// Most relevant line of the output.
        reason: String,
    },
    /// Error message of the keeper.
    #[error("{0}")]
    Keeper(String),
}

fn only(installed: &[String]) -> String {
    match installed {
        [] => "and there is no PostgreSQL server on this machine".to_owned(),
        some => format!("and this machine has only {}", some.join(", ")),
    }
}

/// This process's handle of an embedded cluster; the server runs at least as long as the handle.
pub struct EmbeddedCluster {
    data_dir: PathBuf,
    /// Descriptor of the socket's directory, which the connect options refer to.
    folder: File,
    _users_lock: File,
}

impl EmbeddedCluster {
    /// Joins the cluster of `data_dir`, creating and starting it if necessary. Blocks for about
    /// `max_wait` at most. `program` is run as the keeper.
    pub fn join(
        data_dir: &Path,
        program: &Path,
        max_wait: Duration,
    ) -> Result<Arc<Self>, EmbeddedError> {
        let deadline = Instant::now() + max_wait;
        let data_dir = &open_data_dir(data_dir)?;
        check_own_files(data_dir)?;
        let users_lock = locks::lock_shared(&data_dir.join("users.lock"), deadline)?;
        ensure_server_running(data_dir, program, deadline)?;
        let folder = server::open_folder(&server::cluster_dir(data_dir))?;
        let embedded =
            Arc::new(Self { data_dir: data_dir.clone(), folder, _users_lock: users_lock });
        embedded.clone().watch_keeper(program.to_owned());
        Ok(embedded)
    }

    /// Like [`EmbeddedCluster::join`] without creating a cluster: if none exists, nothing is
    /// changed and the error is [`EmbeddedError::NoCluster`].
    pub fn join_existing(
        data_dir: &Path,
        program: &Path,
        max_wait: Duration,
    ) -> Result<Arc<Self>, EmbeddedError> {
        if !server::has_cluster(data_dir)? {
            return Err(EmbeddedError::NoCluster { data_dir: data_dir.to_owned() });
        }
        Self::join(data_dir, program, max_wait)
    }

    /// Connect options of one of the cluster's databases.
    pub fn connect_options(&self, database: &str) -> PgConnectOptions {
        server::connect_options(&self.folder, database)
    }

    /// Canonical path of the data directory.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Starts a new keeper when the present one is killed, which also ends its server.
    fn watch_keeper(self: Arc<Self>, program: PathBuf) {
        let cluster = Arc::downgrade(&self);
        drop(self);
        std::thread::spawn(move || {
            while let Some(embedded) = cluster.upgrade() {
                let data_dir = embedded.data_dir.clone();
                drop(embedded);
                if locks::wait_until_unlocked(&data_dir.join("keeper.lock")).is_err() {
                    return;
                }
                tracing::warn!(data_dir = %data_dir.display(), "the embedded PostgreSQL's keeper is gone; starting another");
                if let Err(error) = ensure_server_running(
                    &data_dir,
                    &program,
                    Instant::now() + Duration::from_secs(60),
                ) {
                    tracing::error!(%error, code = "UNAVAILABLE", "embedded PostgreSQL");
                    std::thread::sleep(Duration::from_secs(1));
                }
            }
        });
    }
}

impl std::fmt::Debug for EmbeddedCluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Embedded({}, fd {})", self.data_dir.display(), self.folder.as_raw_fd())
    }
}

/// Fails if other users could have placed files at paths that this process writes to.
fn check_own_files(data_dir: &Path) -> Result<(), EmbeddedError> {
    for lock in ["users.lock", "keeper.lock"] {
        restrict_to_owner(&data_dir.join(lock))?;
    }
    for log in log::log_paths(data_dir) {
        restrict_to_owner(&log)?;
    }
    let owner = server::ServerUser::find()?.uid();
    let cluster = server::cluster_dir(data_dir);
    check_own_path(&cluster.with_extension("new"), owner)?;
    check_own_path(&cluster, owner)?;
    Ok(())
}

/// Ensures that a keeper runs and its server accepts connections.
fn ensure_server_running(
    data_dir: &Path,
    program: &Path,
    deadline: Instant,
) -> Result<(), EmbeddedError> {
    let keeper_lock = data_dir.join("keeper.lock");
    let mut started: Option<KeeperExit> = None;
    loop {
        if locks::is_unlocked(&keeper_lock)? {
            match started.as_ref().map(|keeper| keeper.get()) {
                None => started = Some(start_keeper(data_dir, program)?),
                // Started, and has not taken the lock yet.
                Some(None) => {}
                Some(Some(Some(reason))) => return Err(EmbeddedError::Keeper(reason.clone())),
                // It ended because another keeper held the lock a moment ago.
                Some(Some(None)) => started = None,
            }
        } else if server::accepts_connections(data_dir) {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(EmbeddedError::NotStarted {
                data_dir: data_dir.to_owned(),
                reason: "it is not ready yet".to_owned(),
            });
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[allow(unsafe_code)]
fn start_own_session(command: &mut Command) {
    // SAFETY: `setsid` is async-signal-safe and allocates nothing.
    unsafe { command.pre_exec(|| nix::unistd::setsid().map(drop).map_err(std::io::Error::from)) };
}

/// Set when the keeper has ended, to its error message if it failed.
type KeeperExit = Arc<OnceLock<Option<String>>>;

/// Starts a keeper in a new session: Ctrl-C in the terminal must end the services first.
fn start_keeper(data_dir: &Path, program: &Path) -> Result<KeeperExit, EmbeddedError> {
    let mut command = Command::new(program);
    start_own_session(&mut command);
    let mut keeper = command
        .arg(KEEPER_COMMAND)
        .arg(data_dir)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|cause| EmbeddedError::Program { path: program.to_owned(), cause })?;
    let exit = KeeperExit::default();
    let exit_setter = exit.clone();
    std::thread::spawn(move || {
        let mut reason = String::new();
        if let Some(stdout) = keeper.stdout.take() {
            let _ = stdout.take(MAX_REASON_BYTES).read_to_string(&mut reason);
        }
        let _ = keeper.wait();
        let reason = reason.trim();
        let _ = exit_setter.set((!reason.is_empty()).then(|| reason.to_owned()));
    });
    Ok(exit)
}
