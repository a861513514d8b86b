//! A real nats-server with a private store, on a free loopback port; it can be killed, restored and
//! restarted.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ledger::export::ExportEngine;
use ledger_nats::{NatsEngine, NatsSettings};

/// A duplicate window that ends within a test: nothing may depend on it.
pub const WINDOW: Duration = Duration::from_millis(500);

pub struct NatsServer {
    dir: tempfile::TempDir,
    port: u16,
    running: Option<Child>,
}

impl NatsServer {
    pub fn start() -> Self {
        let mut server = Self { dir: tempfile::tempdir().unwrap(), port: 0, running: None };
        server.start_again();
        server
    }

    /// Restarts on the same port with the current store.
    pub fn start_again(&mut self) {
        assert!(self.running.is_none());
        let ports = self.dir.path().join("ports");
        let _ = fs::remove_dir_all(&ports);
        fs::create_dir(&ports).unwrap();
        // Events may be larger than the server's default limit.
        let config =
            format!("max_payload: 9000000\njetstream {{ store_dir: {:?} }}\n", self.store());
        fs::write(self.dir.path().join("config"), config).unwrap();
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.dir.path().join("log"))
            .unwrap();
        let port = if self.port == 0 { "-1".to_owned() } else { self.port.to_string() };
        let started = Command::new(program())
            .arg("--config")
            .arg(self.dir.path().join("config"))
            .args(["--addr", "127.0.0.1", "--port", &port, "--ports_file_dir"])
            .arg(&ports)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn();
        self.running = Some(started.unwrap());
        self.port = self.ready(&ports);
    }

    /// Waits for the ports file in which the server publishes its port.
    fn ready(&self, ports: &Path) -> u16 {
        let begun = Instant::now();
        loop {
            let said = fs::read_dir(ports).unwrap().flatten().find_map(|file| {
                let ports: serde_json::Value =
                    serde_json::from_slice(&fs::read(file.path()).ok()?).ok()?;
                ports["nats"][0].as_str()?.rsplit_once(':')?.1.parse().ok()
            });
            if let Some(port) = said {
                return port;
            }
            assert!(begun.elapsed() < Duration::from_secs(20), "nats-server: {}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Kills the server like `kill -9`.
    pub fn kill(&mut self) {
        let mut running = self.running.take().unwrap();
        running.kill().unwrap();
        running.wait().unwrap();
    }

    /// Copies the store of a stopped server.
    pub fn copy_store(&self) -> tempfile::TempDir {
        let copy = tempfile::tempdir().unwrap();
        copy_folder(&self.store(), copy.path());
        copy
    }

    /// Replaces the store by a copy.
    pub fn put_back(&self, copy: &tempfile::TempDir) {
        assert!(self.running.is_none());
        fs::remove_dir_all(self.store()).unwrap();
        copy_folder(copy.path(), &self.store());
    }

    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// An engine with a separate connection, as of another process.
    pub fn engine(&self) -> Arc<dyn ExportEngine> {
        let settings = NatsSettings {
            duplicate_window: WINDOW,
            timeout: Duration::from_secs(1),
            ..NatsSettings::from_url(self.url())
        };
        Arc::new(NatsEngine::new(settings))
    }

    fn store(&self) -> PathBuf {
        self.dir.path().join("store")
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        if self.running.is_some() {
            self.kill();
        }
    }
}

/// Path of the server binary: `NATS_SERVER`, the installation of scripts/init-repo.sh, or the PATH.
fn program() -> PathBuf {
    if let Some(named) = std::env::var_os("NATS_SERVER") {
        return named.into();
    }
    let installed =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/nats-venv/bin/nats-server");
    if installed.exists() {
        return installed;
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found =
        std::env::split_paths(&path).map(|dir| dir.join("nats-server")).find(|file| file.exists());
    found.expect("these tests need nats-server: scripts/init-repo.sh --test installs it")
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for file in fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        let target = to.join(file.file_name());
        if file.file_type().unwrap().is_dir() {
            copy_folder(&file.path(), &target);
        } else {
            fs::copy(file.path(), target).unwrap();
        }
    }
}
