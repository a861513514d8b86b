//! A fault proxy in front of one database.

use sqlx::postgres::PgConnectOptions;

use crate::{EndpointAddress, FaultProxy};

/// Starts a proxy in front of the database; returns connect options that go through it.
pub async fn start_database_proxy(
    options: &PgConnectOptions,
) -> std::io::Result<(PgConnectOptions, FaultProxy)> {
    let upstream = match options.get_socket() {
        Some(socket) => {
            EndpointAddress::Unix(socket.join(format!(".s.PGSQL.{}", options.get_port())))
        }
        None => {
            let mut found =
                tokio::net::lookup_host((options.get_host(), options.get_port())).await?;
            EndpointAddress::Tcp(found.next().ok_or(std::io::ErrorKind::AddrNotAvailable)?)
        }
    };
    let proxy =
        FaultProxy::start(EndpointAddress::Tcp(([127, 0, 0, 1], 0).into()), upstream).await?;
    let EndpointAddress::Tcp(address) = *proxy.address() else {
        return Err(std::io::ErrorKind::AddrNotAvailable.into());
    };
    let proxied = PgConnectOptions::new_without_pgpass()
        .host(&address.ip().to_string())
        .port(address.port())
        .username(options.get_username())
        .database(options.get_database().unwrap_or_default());
    Ok((proxied, proxy))
}
