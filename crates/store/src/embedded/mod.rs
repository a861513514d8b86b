//! A private PostgreSQL for one machine: started when the first process needs it, shared by all processes with the
//! same data dir, stopped when the last of them ends.
//!
//! Who is there is known by file locks, which the kernel drops however a process ends. Each user holds
//! `users.lock` shared. One *keeper* process (this program again, with the hidden command [`KEEPER_COMMAND`]) holds
//! `keeper.lock`, runs the server as its child, and waits for `users.lock` exclusively: when it gets that, nobody is
//! left, and it stops the server while newcomers still wait for the same lock.
//!
//! The cluster lives in `DATA_DIR/postgres`, its socket in the same folder (mode 0700). Server and clients reach
//! it through `/proc/self/fd`, so neither the length of the path nor folders above it that the server's user may
//! not enter matter.

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

/// The hidden command that makes a program the keeper: `PROGRAM keep-postgres DATA_DIR`.
pub const KEEPER_COMMAND: &str = "keep-postgres";

/// The superuser and owner of everything in an embedded cluster.
pub const CLUSTER_USER: &str = "postgres";

/// The longest reason that is taken from a keeper, in bytes.
const MAX_REASON_BYTES: u64 = 16 << 10;

/// Why the embedded cluster cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    /// The data dir, or something in it, cannot be used.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// A program cannot be run.
    #[error("running {}: {cause}", path.display())]
    Program {
        /// Which.
        path: PathBuf,
        /// Why.
        cause: std::io::Error,
    },
    /// There is no cluster, and whoever asked only looks: nothing was created.
    #[error(
        "there is no cluster here: {data_dir} \
         (has a service ever been started with this data dir? --data-dir, or --database-url for a database elsewhere)"
    )]
    NoCluster {
        /// Where it was looked for.
        data_dir: PathBuf,
    },
    /// No server binaries on this machine.
    #[error(
        "no PostgreSQL server found on PATH or in /usr/lib/postgresql: \
         install it (Debian, Ubuntu: apt-get install postgresql) or give --database-url"
    )]
    NotInstalled,
    /// The cluster is of a version whose server is not on this machine.
    #[error(
        "the cluster in {} is of PostgreSQL {version}, {}: install it (Debian, Ubuntu: apt-get install \
         postgresql-{version}), or bring the cluster to a version that is there with pg_upgrade",
        cluster.display(), only(installed)
    )]
    OtherVersion {
        /// Where it lies.
        cluster: PathBuf,
        /// Its version.
        version: String,
        /// Those that are there.
        installed: Vec<String>,
    },
    /// Too little room for a new cluster.
    #[error(
        "{} has {free_mib} MiB of free space, and a new PostgreSQL cluster needs {needed_mib}: make room, \
         or give another --data-dir",
        data_dir.display()
    )]
    NoFreeSpace {
        /// Where.
        data_dir: PathBuf,
        /// What there is.
        free_mib: u64,
        /// What there must be.
        needed_mib: u64,
    },
    /// `initdb` refuses a user that the machine does not know.
    #[error(
        "user id {uid} has no name on this machine, which PostgreSQL needs to make a cluster: \
         give it one (useradd --uid {uid} NAME, or a line in /etc/passwd), or give --database-url"
    )]
    NamelessUser {
        /// Which.
        uid: u32,
    },
    /// As root the server runs as user `postgres`, and there is none.
    #[error(
        "running as root needs a system user `postgres` for the embedded PostgreSQL (apt-get install postgresql)"
    )]
    NoUser,
    /// The server did not come up; its log says more.
    #[error("the embedded PostgreSQL in {data_dir} did not start: {reason}")]
    NotStarted {
        /// Whose.
        data_dir: PathBuf,
        /// The most telling line there is.
        reason: String,
    },
    /// What the keeper gave up for, in its words.
    #[error("{0}")]
    Keeper(String),
}

fn only(installed: &[String]) -> String {
    match installed {
        [] => "and there is no PostgreSQL server on this machine".to_owned(),
        some => format!("and this machine has only {}", some.join(", ")),
    }
}

/// This process's use of a data dir's cluster; the cluster runs at least as long as this lives.
pub struct EmbeddedCluster {
    data_dir: PathBuf,
    /// Open on the socket's folder: what the connect options point at.
    folder: File,
    _users_lock: File,
}

impl EmbeddedCluster {
    /// Joins the cluster of `data_dir`, creating and starting it if need be. Blocks for at most about `max_wait`.
    /// `program` is run as the keeper.
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

    /// Joins the cluster of `data_dir`, starting it if need be, but never creates one: without a cluster nothing is
    /// changed, and the error is [`EmbeddedError::NoCluster`].
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

    /// How to connect to one of the cluster's databases.
    pub fn connect_options(&self, database: &str) -> PgConnectOptions {
        server::connect_options(&self.folder, database)
    }

    /// The data dir, absolute.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Starts a new keeper should the present one be killed: its server goes with it.
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

/// Refuses what others may have put where we write.
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

/// Makes sure that a keeper is there and its server accepts connections.
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
                // Still on its way to the lock.
                Some(None) => {}
                Some(Some(Some(reason))) => return Err(EmbeddedError::Keeper(reason.clone())),
                // It ended because another one was there a moment ago.
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

/// Set when it has ended: to the reason, if it gave up.
type KeeperExit = Arc<OnceLock<Option<String>>>;

/// Starts a keeper in a session of its own: a Ctrl-C at the terminal must end the services first.
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
