//! Child process under test: its output is logged, and it is always stopped by its process id.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getppid};

/// Timeout of a graceful shutdown.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(40);

/// A running process; stopped on drop.
pub struct ChildProcess {
    name: &'static str,
    child: Child,
    /// File with its stdout and stderr.
    log_path: PathBuf,
    stopped: bool,
}

impl ChildProcess {
    /// Starts `program` with its output in `<folder>/<name>.log`. Removes the services'
    /// settings from the environment.
    pub fn start(
        name: &'static str,
        program: &Path,
        args: &[String],
        folder: &Path,
    ) -> anyhow::Result<Self> {
        let log_path = folder.join(format!("{name}.log"));
        let output = File::options().create(true).append(true).open(&log_path);
        let output = output.with_context(|| format!("{}", log_path.display()))?;
        let mut command = Command::new(program);
        for (variable, _) in std::env::vars_os() {
            let text = variable.to_string_lossy();
            if text.starts_with("ORDER_SERVICE_") || text.starts_with("DATA_MANAGER_") {
                command.env_remove(&variable);
            }
        }
        command.args(args).stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        // Ctrl-C in the terminal must reach only this program, which stops its children in order.
        command.process_group(0);
        end_with_parent_thread(&mut command);
        let child = command.spawn().with_context(|| format!("starting {}", program.display()))?;
        Ok(Self { name, child, log_path, stopped: false })
    }

    /// The operating system's process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Fails with the last log lines if the process has exited.
    pub fn check_alive(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => {
                anyhow::bail!("{} ended ({status}): {}", self.name, last_lines(&self.log_path, 3))
            }
        }
    }

    /// Waits for a successful exit; returns the last line of output.
    pub async fn wait_for_exit(&mut self) -> anyhow::Result<String> {
        loop {
            match self.child.try_wait()? {
                None => tokio::time::sleep(Duration::from_millis(20)).await,
                Some(status) if status.success() => return Ok(last_lines(&self.log_path, 1)),
                Some(status) => {
                    anyhow::bail!(
                        "{} ended ({status}): {}",
                        self.name,
                        last_lines(&self.log_path, 3)
                    )
                }
            }
        }
    }

    /// Sends SIGTERM; SIGKILL after `SHUTDOWN_TIMEOUT`.
    pub fn stop(&mut self) {
        if std::mem::replace(&mut self.stopped, true) {
            return;
        }
        let pid = Pid::from_raw(self.child.id().cast_signed());
        let deadline = Instant::now() + SHUTDOWN_TIMEOUT;
        let _ = kill(pid, Signal::SIGTERM);
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() > deadline {
                let _ = kill(pid, Signal::SIGKILL);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for ChildProcess {
    fn drop(&mut self) {
        self.stop();
    }
}

/// If this program is killed, the kernel terminates its children.
#[allow(unsafe_code)]
fn end_with_parent_thread(command: &mut Command) {
    let parent = Pid::this();
    let prepare = move || {
        nix::sys::prctl::set_pdeathsig(Signal::SIGTERM)?;
        if getppid() == parent { Ok(()) } else { Err(std::io::ErrorKind::BrokenPipe.into()) }
    };
    // SAFETY: only async-signal-safe system calls between fork and exec, and no allocation.
    unsafe { command.pre_exec(prepare) };
}

fn last_lines(log_path: &Path, max_lines: usize) -> String {
    let Ok(file) = File::open(log_path) else { return "no log".to_owned() };
    let lines: Vec<String> = BufReader::new(file).lines().map_while(Result::ok).collect();
    let last = &lines[lines.len().saturating_sub(max_lines)..];
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
            ChildProcess::start("shell", Path::new("/bin/sh"), &args, folder.path()).unwrap();
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
        let process = ChildProcess::start(
            "sleep",
            Path::new("/bin/sleep"),
            &["60".to_owned()],
            folder.path(),
        );
        let process = process.unwrap();
        let pid = process.pid();
        drop(process);
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
    }
}
