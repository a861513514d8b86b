//! The HTTP port: opens first, so that probes are answered while the database is still starting.

use serving::http_guard::{Hosts, guard};
use serving::listen::Listeners;
use serving::ops::{self, Readiness};

use crate::settings::Settings;

/// Starts serving HTTP; answers the port.
pub(super) async fn start(settings: &Settings, readiness: Readiness) -> anyhow::Result<u16> {
    let bound = if settings.http_port_given {
        Listeners::bind(&settings.listen, settings.http_port, "--http-port").await
    } else {
        Listeners::bind_from(&settings.listen, settings.http_port, "--http-port").await
    };
    let listeners = bound?;
    let port = listeners.port();
    if port != settings.http_port && settings.http_port != 0 {
        tracing::info!(port, taken = settings.http_port, "the HTTP port is taken; using the next free one");
    }
    let metrics = ops::metrics().map_err(anyhow::Error::msg)?;
    let hosts = Hosts::loopback_and(settings.allowed_hosts.iter().cloned());
    let routes = ops::routes(readiness, metrics).layer(axum::middleware::from_fn_with_state(hosts, guard));
    for listener in listeners.into_inner() {
        let routes = routes.clone();
        tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, routes).await {
                tracing::error!(%error, code = "INTERNAL_ERROR", "HTTP server");
            }
        });
    }
    Ok(port)
}
