//! The keeper: the process that runs the embedded server while the data directory has users.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use nix::sys::signal::{self, SigHandler, Signal};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;

use super::server::{EmbeddedServer, EmbeddedServerOptions};
use super::{EmbeddedError, locks};

enum KeeperEvent {
    ServerEnded,
    /// With the exclusive users' lock: new users wait until this process has ended.
    LastUserGone(Option<File>),
}

/// Runs the server of `data_dir` until its last user has ended. Returns immediately if another
/// keeper runs. Reports the reason of a failure to its parent process on standard output.
#[allow(clippy::disallowed_methods)] // a pipe to another process of this program
pub fn run_keeper(data_dir: &Path) -> Result<(), EmbeddedError> {
    ignore_signals();
    let result = acquire_keeper_lock(data_dir).and_then(|place| match place {
        Some(_keeper) => serve_until_unused(data_dir),
        None => Ok(()),
    });
    if let Err(error) = &result {
        // The parent process may have ended.
        let _ = writeln!(std::io::stdout(), "{error}");
    }
    result
}

/// Takes the keeper's lock. Processes that check whether it is free hold it briefly, so one
/// try is not enough.
fn acquire_keeper_lock(data_dir: &Path) -> Result<Option<File>, EmbeddedError> {
    let deadline = Instant::now() + Duration::from_millis(300);
    loop {
        let lock = locks::try_lock_exclusive(&data_dir.join("keeper.lock"))?;
        if lock.is_some() || Instant::now() > deadline {
            return Ok(lock);
        }
        std::thread::sleep(Duration::from_millis(3));
    }
}

/// Signals to the whole process group or session (a supervisor's stop, a closed terminal) are for
/// the services; the keeper ends after them.
#[allow(unsafe_code)]
fn ignore_signals() {
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        // SAFETY: ignoring a signal installs no handler; the server sets its own when it starts.
        let _ = unsafe { signal::signal(signal, SigHandler::SigIgn) };
    }
}

fn serve_until_unused(data_dir: &Path) -> Result<(), EmbeddedError> {
    let (event_sender, event_receiver) = mpsc::channel();
    let mut server = start_server(data_dir, &event_sender)?;
    let users = data_dir.join("users.lock");
    let waiter_sender = event_sender.clone();
    std::thread::spawn(move || {
        waiter_sender.send(KeeperEvent::LastUserGone(locks::lock_exclusive(&users).ok()))
    });
    loop {
        match event_receiver.recv() {
            Ok(KeeperEvent::ServerEnded) => {
                // The server was killed and has users: restart it, with a short pause in
                // case it crashes repeatedly.
                server.stop();
                std::thread::sleep(Duration::from_millis(100));
                server = start_server(data_dir, &event_sender)?;
            }
            Ok(KeeperEvent::LastUserGone(_users)) => {
                server.stop();
                return Ok(());
            }
            Err(mpsc::RecvError) => return Ok(()),
        }
    }
}

/// Starts the server from the main thread: its parent-death signal is bound to the starting thread.
fn start_server(
    data_dir: &Path,
    events: &mpsc::Sender<KeeperEvent>,
) -> Result<EmbeddedServer, EmbeddedError> {
    let server = EmbeddedServer::start(
        data_dir,
        EmbeddedServerOptions::default(),
        Instant::now() + Duration::from_secs(300),
    )?;
    let (pid, events) = (Pid::from_raw(server.pid().cast_signed()), events.clone());
    std::thread::spawn(move || {
        // WNOWAIT leaves the exit status for `EmbeddedServer::stop`, so the pid is
        // not reused until then.
        let _ = waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT);
        events.send(KeeperEvent::ServerEnded)
    });
    Ok(server)
}
