//! Emulator of Amazon SQS (ministack), as a child process that ends with its test.

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::time::Instant;

use queue::fifo::{SqsAccount, SqsCredentials};
use queue_sqs::SqsFifo;

/// A running emulator process.
pub struct SqsEmulator {
    process: Child,
    /// Port on the loopback address.
    pub port: u16,
}

impl SqsEmulator {
    /// Starts the emulator and waits until it accepts connections.
    /// `scripts/init-repo.sh --test` installs it.
    pub async fn start() -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let process = Command::new(emulator_program())
            .envs([("BIND_HOST", "127.0.0.1"), ("MINISTACK_HOST", "127.0.0.1")])
            .env("GATEWAY_PORT", port.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let emulator = Self { process, port };
        let deadline = Instant::now() + Duration::from_secs(60);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < deadline, "the emulator does not start");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        emulator
    }

    /// A FIFO engine connected to this emulator.
    pub async fn engine(&self) -> SqsFifo {
        sqs_engine_at(self.port).await
    }
}

/// The URL of an endpoint at this port of the loopback address.
pub fn loopback_url(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

/// A FIFO engine for the SQS endpoint at this port of the loopback address.
pub async fn sqs_engine_at(port: u16) -> SqsFifo {
    let key = SqsCredentials {
        access_key_id: "test".to_owned(),
        secret_access_key: "test".to_owned(),
        session_token: None,
    };
    let account = SqsAccount {
        endpoint_url: Some(loopback_url(port)),
        region: Some("us-east-1".to_owned()),
        credentials: Some(key),
    };
    SqsFifo::new(&account).await
}

impl Drop for SqsEmulator {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The installation of `scripts/init-repo.sh`, in a folder above the package under test.
fn emulator_program() -> PathBuf {
    let folders = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    let installed = folders
        .map(|folder| folder.join("target/sqs-venv/bin/ministack"))
        .find(|file| file.exists());
    installed.expect("these tests need an SQS emulator: scripts/init-repo.sh --test installs it")
}
