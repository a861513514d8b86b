//! The server process of an embedded cluster: start, readiness, shutdown.

use std::fs::{File, OpenOptions};
use std::os::fd::{AsRawFd as _, RawFd};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid, User, geteuid, getppid};
use sqlx::postgres::{PgConnectOptions, PgSslMode};

use super::binaries::find_binaries;
use super::initdb::initialise_cluster;
use super::log::ServerLog;
use super::{CLUSTER_USER, EmbeddedError, failure, memory};
use crate::data_dir::file_error;

/// Directory of the cluster within a data directory: data files and socket.
pub(super) fn cluster_dir(data_dir: &Path) -> PathBuf {
    data_dir.join("postgres")
}

/// Whether the data directory has a complete cluster.
pub(super) fn has_cluster(data_dir: &Path) -> Result<bool, EmbeddedError> {
    let version = cluster_dir(data_dir).join("PG_VERSION");
    Ok(std::fs::exists(&version).map_err(file_error(&version))?)
}

/// Opens a directory as an `O_PATH` descriptor, independent of the permissions of its parents.
pub(super) fn open_folder(path: &Path) -> Result<File, EmbeddedError> {
    OpenOptions::new()
        .read(true)
        .custom_flags((OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW).bits())
        .open(path)
        .map_err(|error| file_error(path)(error).into())
}

pub(super) fn proc_fd_path(folder: &File) -> String {
    format!("/proc/self/fd/{}", folder.as_raw_fd())
}

/// Explicit values for all parameters that libpq variables could set; variables that only add
/// parameters are removed ([`remove_libpq_variables`](crate::remove_libpq_variables)).
pub(super) fn connect_options(folder: &File, database: &str) -> PgConnectOptions {
    PgConnectOptions::new_without_pgpass()
        .socket(proc_fd_path(folder))
        .port(5432)
        .username(CLUSTER_USER)
        .database(database)
        .ssl_mode(PgSslMode::Disable)
        .application_name("embedded")
}

/// Whether the server reports `ready` and accepts connections.
pub(super) fn accepts_connections(data_dir: &Path) -> bool {
    let dir = cluster_dir(data_dir);
    let ready = std::fs::read_to_string(dir.join("postmaster.pid"))
        .is_ok_and(|pid| pid.lines().nth(7).is_some_and(|status| status.trim() == "ready"));
    ready
        && open_folder(&dir).is_ok_and(|folder| {
            UnixStream::connect(proc_fd_path(&folder) + "/.s.PGSQL.5432").is_ok()
        })
}

/// Settings of an embedded server.
#[derive(Debug, Clone, Copy)]
pub struct EmbeddedServerOptions {
    /// Maximum number of client connections.
    pub max_connections: u32,
}

impl Default for EmbeddedServerOptions {
    fn default() -> Self {
        Self { max_connections: 200 }
    }
}

/// A running server, a child of this process. It receives SIGINT (fast shutdown) when the thread
/// that started it ends.
pub struct EmbeddedServer {
    child: Child,
    folder: File,
    log: ServerLog,
}

impl EmbeddedServer {
    /// Initialises the cluster in `data_dir` if necessary, starts its server and waits
    /// until it is ready.
    pub fn start(
        data_dir: &Path,
        options: EmbeddedServerOptions,
        deadline: Instant,
    ) -> Result<Self, EmbeddedError> {
        let dir = cluster_dir(data_dir);
        let binaries = find_binaries(&dir)?;
        let owner = ServerUser::find()?;
        if !dir.join("PG_VERSION").exists() {
            initialise_cluster(&dir, &binaries, &owner, data_dir)?;
        }
        // A killed server's last processes hold the shared memory for a moment.
        let retry_deadline = deadline.min(Instant::now() + Duration::from_secs(10));
        loop {
            stop_orphaned_server(&dir, deadline);
            let mut server =
                spawn_server(&binaries, &owner, open_folder(&dir)?, data_dir, options)?;
            let Err(output) = server.wait_until_ready(data_dir, deadline) else {
                return Ok(server);
            };
            if Instant::now() > retry_deadline || !failure::is_passing_failure(&output) {
                let reason = failure::explain_failure(&output);
                return Err(EmbeddedError::NotStarted { data_dir: data_dir.to_owned(), reason });
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Connect options of one of the cluster's databases.
    pub fn connect_options(&self, database: &str) -> PgConnectOptions {
        connect_options(&self.folder, database)
    }

    /// Process id of the server.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Stops the server: fast shutdown, without loss of data; after 30 s immediate shutdown
    /// (recovery at the next start).
    pub fn stop(&mut self) {
        let pid = Pid::from_raw(self.child.id().cast_signed());
        let fast_deadline = Instant::now() + Duration::from_secs(30);
        let mut signal = Signal::SIGINT;
        let _ = kill(pid, signal);
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() > fast_deadline && signal == Signal::SIGINT {
                signal = Signal::SIGQUIT;
                let _ = kill(pid, signal);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        self.log.finish();
    }

    /// Waits until the server is ready; the error is its output if it exits or times out.
    fn wait_until_ready(&mut self, data_dir: &Path, deadline: Instant) -> Result<(), String> {
        while !accepts_connections(data_dir) {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return Err(self.log.last_lines());
            }
            if Instant::now() > deadline {
                self.stop();
                return Err("it was not ready in time".to_owned());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}

/// User of the server process: PostgreSQL refuses to run as root.
pub(super) struct ServerUser(pub(super) Option<User>);

impl ServerUser {
    pub(super) fn find() -> Result<Self, EmbeddedError> {
        if !geteuid().is_root() {
            return Ok(Self(None));
        }
        User::from_name(CLUSTER_USER)
            .ok()
            .flatten()
            .map(|user| Self(Some(user)))
            .ok_or(EmbeddedError::NoUser)
    }

    pub(super) fn uid(&self) -> Uid {
        self.0.as_ref().map_or_else(geteuid, |user| user.uid)
    }

    /// Command run as this user with a cleared environment.
    pub(super) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("LC_ALL", "C")
            .current_dir("/")
            .stdin(Stdio::null());
        if let Self(Some(user)) = self {
            command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
        }
        command
    }
}

fn spawn_server(
    binaries: &Path,
    owner: &ServerUser,
    folder: File,
    data_dir: &Path,
    options: EmbeddedServerOptions,
) -> Result<EmbeddedServer, EmbeddedError> {
    let (log_reader, stdout) = std::io::pipe().map_err(file_error(data_dir))?;
    let log = ServerLog::start(data_dir, log_reader)?;
    let mut command = owner.command(&binaries.join("postgres"));
    command.args(["-D", &proc_fd_path(&folder)]);
    let max_connections = format!("max_connections={}", options.max_connections);
    let shared_buffers =
        format!("shared_buffers={}MB", memory::shared_buffers_mib(&cluster_dir(data_dir)));
    for setting in [
        "listen_addresses=",
        "unix_socket_directories=.",
        "unix_socket_permissions=0700",
        &max_connections,
        &shared_buffers,
        // Each commit writes the buffers in use; only bulk loads fill more,
        // and they stay allocated.
        "wal_buffers=4MB",
        "max_wal_size=2GB",
        "checkpoint_timeout=15min",
        "wal_level=minimal",
        "max_wal_senders=0",
        // No replication from this cluster: one process less.
        "max_logical_replication_workers=0",
        // Parallel queries are off (`max_parallel_workers_per_gather` is 0 on every connection).
        "max_worker_processes=2",
        "autovacuum_max_workers=2",
        // The hot statements are short and prepared: compilation would cost more than execution.
        "jit=off",
        "autovacuum_naptime=10s",
        "autovacuum_vacuum_cost_delay=1ms",
        "log_min_messages=warning",
        "log_line_prefix=%m [%p] %a ",
        "log_checkpoints=off",
    ] {
        command.args(["-c", setting]);
    }
    let stderr = stdout.try_clone().map_err(file_error(data_dir))?;
    command.stdout(stdout).stderr(stderr).process_group(0);
    inherit_folder(&mut command, folder.as_raw_fd(), true);
    let child = command
        .spawn()
        .map_err(|cause| EmbeddedError::Program { path: binaries.to_owned(), cause })?;
    Ok(EmbeddedServer { child, folder, log })
}

/// Lets the child inherit `folder` and, if `bound`, end with this thread. The uid is already
/// changed at this point: a later change would clear the parent-death signal.
#[allow(unsafe_code)]
pub(super) fn inherit_folder(command: &mut Command, folder: RawFd, bound: bool) {
    let parent = bound.then(Pid::this);
    // SAFETY: between fork and exec only async-signal-safe system calls
    // are made, without allocation.
    unsafe { command.pre_exec(move || prepare_child(folder, parent)) };
}

/// Runs in the child between fork and exec. With a parent, the child ends with it.
#[allow(unsafe_code)]
fn prepare_child(folder: RawFd, parent: Option<Pid>) -> std::io::Result<()> {
    // SAFETY: the descriptor outlives the child's exec: the caller holds the file
    // until `spawn_server` has returned.
    let folder = unsafe { std::os::fd::BorrowedFd::borrow_raw(folder) };
    fcntl(folder, FcntlArg::F_SETFD(FdFlag::empty()))?;
    if let Some(parent) = parent {
        nix::sys::prctl::set_pdeathsig(Signal::SIGINT)?;
        if getppid() != parent {
            return Err(std::io::ErrorKind::BrokenPipe.into());
        }
    }
    Ok(())
}

/// Waits for the server of a killed keeper, which ends through its parent-death signal, and removes
/// stale files of a crash. The caller holds the keeper's lock, so no valid server can be affected.
fn stop_orphaned_server(dir: &Path, deadline: Instant) {
    let pid_file = dir.join("postmaster.pid");
    let pid = std::fs::read_to_string(&pid_file).ok();
    let pid =
        pid.and_then(|text| text.lines().next().and_then(|line| line.trim().parse::<i32>().ok()));
    while let Some(pid) = pid.filter(|pid| is_working_in(*pid, dir))
        && Instant::now() < deadline
    {
        let _ = kill(Pid::from_raw(pid), Signal::SIGINT);
        std::thread::sleep(Duration::from_millis(20));
    }
    if !pid.is_some_and(|pid| is_working_in(pid, dir)) {
        // The recorded pids may be reused by other processes or belong to a zombie: the server
        // would assume another server.
        for stale in ["postmaster.pid", ".s.PGSQL.5432.lock", ".s.PGSQL.5432"] {
            let _ = std::fs::remove_file(dir.join(stale));
        }
    }
}

/// Whether the process exists and its working directory is this one.
fn is_working_in(pid: i32, dir: &Path) -> bool {
    let cwd = identify_folder(Path::new(&format!("/proc/{pid}/cwd")));
    cwd.is_some() && cwd == identify_folder(dir)
}

/// Device and inode.
fn identify_folder(path: &Path) -> Option<(u64, u64)> {
    let folder = std::fs::metadata(path).ok()?;
    Some((folder.dev(), folder.ino()))
}
