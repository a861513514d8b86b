//! The keeper: the process that runs the embedded server for as long as the data dir has users.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use nix::sys::signal::{self, SigHandler, Signal};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;

use super::server::{Server, ServerOptions};
use super::{EmbeddedError, locks};

enum Event {
    ServerEnded,
    /// With the users' lock, held exclusively: newcomers wait until this process is gone.
    NobodyLeft(Option<File>),
}

/// Runs the server of `data_dir` until its last user is gone. Returns at once if another keeper is there. Why it gave up, it
/// tells whoever started it, on standard output.
#[allow(clippy::disallowed_methods)] // A pipe to another of our processes, not to people.
pub fn keep(data_dir: &Path) -> Result<(), EmbeddedError> {
    ignore_signals();
    let kept = take_place(data_dir).and_then(|place| match place {
        Some(_keeper) => serve_users(data_dir),
        None => Ok(()),
    });
    if let Err(error) = &kept {
        // They may be gone.
        let _ = writeln!(std::io::stdout(), "{error}");
    }
    kept
}

/// The keeper's lock. Those who only look whether it is free hold it for a moment, too: one try would not do.
fn take_place(data_dir: &Path) -> Result<Option<File>, EmbeddedError> {
    let patience = Instant::now() + Duration::from_millis(300);
    loop {
        let place = locks::try_exclusive(&data_dir.join("keeper.lock"))?;
        if place.is_some() || Instant::now() > patience {
            return Ok(place);
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

fn serve_users(data_dir: &Path) -> Result<(), EmbeddedError> {
    let (events, happened) = mpsc::channel();
    let mut server = start(data_dir, &events)?;
    let users = data_dir.join("users.lock");
    let last_one = events.clone();
    std::thread::spawn(move || last_one.send(Event::NobodyLeft(locks::exclusive(&users).ok())));
    loop {
        match happened.recv() {
            Ok(Event::ServerEnded) => {
                // It was killed: its users are still there. A short pause, should it die again and again.
                server.stop();
                std::thread::sleep(Duration::from_millis(100));
                server = start(data_dir, &events)?;
            }
            Ok(Event::NobodyLeft(_users)) => {
                server.stop();
                return Ok(());
            }
            Err(mpsc::RecvError) => return Ok(()),
        }
    }
}

/// Starts the server from this, the main thread: it is told to end with the thread that started it.
fn start(data_dir: &Path, events: &mpsc::Sender<Event>) -> Result<Server, EmbeddedError> {
    let server =
        Server::start(data_dir, ServerOptions::default(), Instant::now() + Duration::from_secs(300))?;
    let (pid, events) = (Pid::from_raw(server.pid().cast_signed()), events.clone());
    std::thread::spawn(move || {
        // Leaves the exit status for `Server::stop` to collect, so that the pid stays its own until then.
        let _ = waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT);
        events.send(Event::ServerEnded)
    });
    Ok(server)
}
