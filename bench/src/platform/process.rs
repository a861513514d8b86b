//! A program under test as a child process: its log kept, stopped by its id whatever happens to this one.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getppid};

/// How long a program may take to end in order.
const PATIENCE: Duration = Duration::from_secs(40);

/// A running program. Dropped, it is stopped.
pub struct Process {
    name: &'static str,
    child: Child,
    /// What it said, also to standard output.
    log: PathBuf,
    stopped: bool,
}

impl Process {
    /// Starts `program`, with its output in `<folder>/<name>.log`. Settings in this program's environment do not reach it.
    pub fn start(
        name: &'static str,
        program: &Path,
        args: &[String],
        folder: &Path,
    ) -> anyhow::Result<Self> {
        let log = folder.join(format!("{name}.log"));
        let output = File::options().create(true).append(true).open(&log);
        let output = output.with_context(|| format!("{}", log.display()))?;
        let mut command = Command::new(program);
        for (variable, _) in std::env::vars_os() {
            let text = variable.to_string_lossy();
            if text.starts_with("ORDER_SERVICE_") || text.starts_with("DATA_MANAGER_") {
                command.env_remove(&variable);
            }
        }
        command.args(args).stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        // A Ctrl-C at the terminal is for this program, which then stops its children in order.
        command.process_group(0);
        end_with_this_thread(&mut command);
        let child = command.spawn().with_context(|| format!("starting {}", program.display()))?;
        Ok(Self { name, child, log, stopped: false })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Fails if it has ended by itself, with the last of what it said.
    pub fn check_alive(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => {
                anyhow::bail!("{} ended ({status}): {}", self.name, last_lines(&self.log, 3))
            }
        }
    }

    /// Waits until it has ended well; returns the last line it said.
    pub async fn ended(&mut self) -> anyhow::Result<String> {
        loop {
            match self.child.try_wait()? {
                None => tokio::time::sleep(Duration::from_millis(20)).await,
                Some(status) if status.success() => return Ok(last_lines(&self.log, 1)),
                Some(status) => {
                    anyhow::bail!("{} ended ({status}): {}", self.name, last_lines(&self.log, 3))
                }
            }
        }
    }

    /// Stops it as an operator would, and kills it if that takes too long.
    pub fn stop(&mut self) {
        if std::mem::replace(&mut self.stopped, true) {
            return;
        }
        let pid = Pid::from_raw(self.child.id().cast_signed());
        let patience = Instant::now() + PATIENCE;
        let _ = kill(pid, Signal::SIGTERM);
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() > patience {
                let _ = kill(pid, Signal::SIGKILL);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Should this program be killed outright, the kernel ends its children.
#[allow(unsafe_code)]
fn end_with_this_thread(command: &mut Command) {
    let parent = Pid::this();
    let prepare = move || {
        nix::sys::prctl::set_pdeathsig(Signal::SIGTERM)?;
        if getppid() == parent { Ok(()) } else { Err(std::io::ErrorKind::BrokenPipe.into()) }
    };
    // SAFETY: only async-signal-safe system calls between fork and exec, and nothing is allocated.
    unsafe { command.pre_exec(prepare) };
}

fn last_lines(log: &Path, most: usize) -> String {
    let Ok(file) = File::open(log) else { return "no log".to_owned() };
    let lines: Vec<String> = BufReader::new(file).lines().map_while(Result::ok).collect();
    let last = &lines[lines.len().saturating_sub(most)..];
    if last.is_empty() { "it said nothing".to_owned() } else { last.join(" | ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_ends_is_noticed_with_what_it_said_last() {
        let folder = tempfile::tempdir().unwrap();
        let args = ["-c".to_owned(), "echo no such luck; exit 3".to_owned()];
        let mut process =
            Process::start("shell", Path::new("/bin/sh"), &args, folder.path()).unwrap();
        let error = loop {
            match process.check_alive() {
                Ok(()) => std::thread::sleep(Duration::from_millis(5)),
                Err(error) => break error.to_string(),
            }
        };
        assert!(error.contains("no such luck"), "{error}");
    }

    #[test]
    fn a_dropped_process_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let process =
            Process::start("sleep", Path::new("/bin/sleep"), &["60".to_owned()], folder.path());
        let process = process.unwrap();
        let pid = process.pid();
        drop(process);
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
    }
}
