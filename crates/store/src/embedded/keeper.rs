//! The keeper: the process that runs the embedded server for as long as the data dir has users.

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
    /// With the users' lock, held exclusively: newcomers wait until this process is gone.
    LastUserGone(Option<File>),
}

/// Runs the server of `data_dir` until its last user is gone. Returns at once if another keeper is there. Why it gave up, it
/// tells whoever started it, on standard output.
#[allow(clippy::disallowed_methods)] // A pipe to another of our processes, not to people.
pub fn run_keeper(data_dir: &Path) -> Result<(), EmbeddedError> {
    ignore_signals();
    let result = acquire_keeper_lock(data_dir).and_then(|place| match place {
        Some(_keeper) => serve_until_unused(data_dir),
        None => Ok(()),
    });
    if let Err(error) = &result {
        // They may be gone.
        let _ = writeln!(std::io::stdout(), "{error}");
    }
    result
}

/// The keeper's lock. Those who only look whether it is free hold it for a moment, too: one try would not do.
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

/// A signal to everything at once (a supervisor's stop, a closed terminal) is for the services; the keeper ends when
/// they have ended.
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
                // It was killed: its users are still there. A short pause, should it die again and again.
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

/// Starts the server from this, the main thread: it is told to end with the thread that started it.
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
        // Leaves the exit status for `EmbeddedServer::stop` to collect, so that the pid stays its own until then.
        let _ = waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT);
        events.send(KeeperEvent::ServerEnded)
    });
    Ok(server)
}
