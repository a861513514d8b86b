//! Free loopback ports.

use std::net::{Ipv4Addr, TcpListener};
use std::time::Duration;

use anyhow::Context as _;
use tokio::net::TcpStream;
use tokio::time::Instant;

/// Distinct unused ports. Another process may take one before its use; the service then fails to
/// start with an error.
pub fn find_free_ports<const N: usize>() -> anyhow::Result<[u16; N]> {
    let mut listeners = Vec::with_capacity(N);
    let mut ports = [0; N];
    for port in &mut ports {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("a free port")?;
        *port = listener.local_addr()?.port();
        listeners.push(listener);
    }
    Ok(ports)
}

/// Waits until the port accepts connections; an error of `check_alive` ends the wait.
pub async fn wait_until_listening(
    port: u16,
    timeout: Duration,
    mut check_alive: impl FnMut() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let deadline = Instant::now() + timeout;
    while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_err() {
        check_alive()?;
        anyhow::ensure!(
            Instant::now() < deadline,
            "nobody listens on port {port} after {timeout:?}"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}
