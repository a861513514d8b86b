//! The keeper: the process that runs the embedded server for as long as the data dir has users.

use std::fs::File;
use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::{Pid, setsid};

use super::server::{Server, ServerOptions};
use super::{EmbeddedError, locks};

enum Event {
    ServerEnded,
    /// With the users' lock, held exclusively: newcomers wait until this process is gone.
    NobodyLeft(Option<File>),
}

/// Runs the server of `data_dir` until its last user is gone. Returns at once if another keeper is there.
pub fn keep(data_dir: &Path) -> Result<(), EmbeddedError> {
    // Fails when already a session leader, which is as good.
    let _ = setsid();
    let Some(_keeper) = locks::try_exclusive(&data_dir.join("keeper.lock"))? else {
        return Ok(());
    };
    let kept = serve_users(data_dir);
    let failure = data_dir.join("keeper.failed");
    match &kept {
        Ok(()) => drop(std::fs::remove_file(failure)),
        Err(error) => drop(std::fs::write(failure, error.to_string())),
    }
    kept
}

/// What the last keeper that gave up said.
pub(super) fn last_failure(data_dir: &Path) -> String {
    std::fs::read_to_string(data_dir.join("keeper.failed"))
        .unwrap_or_else(|_| format!("see {}", data_dir.join("postgres.log").display()))
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
