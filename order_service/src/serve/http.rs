//! The HTTP port: opens first, so that probes are answered while the database is still starting.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use serving::error::{ApiError, Code};
use serving::http_guard::Hosts;
use serving::listen::Listeners;
use serving::ops::{self, Readiness};
use serving::server::{Budget, Limits, Protocol, Serving, Terms};
use serving::timing::server_timing;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use crate::settings::ServiceSettings;

/// The API's routes, once there are any: it needs the databases.
type LateRoutes = Arc<OnceLock<Router>>;

/// The HTTP port, and the place for the API's routes.
pub(super) struct HttpApiServer {
    routes: LateRoutes,
    server: Serving,
    stop: CancellationToken,
}

impl HttpApiServer {
    /// From now on these are served.
    pub(super) fn install_routes(&self, routes: Router) {
        let routes =
            routes.fallback(async || ApiError::new(Code::NotFound, "there is nothing at this address"));
        // A second time would be a second start.
        let _ = self.routes.set(routes);
    }

    /// Closes the port; requests in flight are answered within this time.
    pub(super) async fn stop(&self, within: Duration) {
        self.stop.cancel();
        let _ = tokio::time::timeout(within, self.server.ended()).await;
        self.server.cut();
    }
}

async fn serve_late_routes(State(api): State<LateRoutes>, request: Request) -> Response {
    match api.get() {
        Some(routes) => routes.clone().oneshot(request).await.into_response(),
        None => serving::starting::answer(&request),
    }
}

/// Starts serving HTTP; answers the port and the place for the API's routes.
pub(super) async fn start_http_server(
    settings: &ServiceSettings,
    readiness: Readiness,
    limits: Limits,
    budget: Budget,
) -> anyhow::Result<(u16, HttpApiServer)> {
    let bound = if settings.is_http_port_explicit {
        Listeners::bind(&settings.listen, settings.http_port, "--http-port").await
    } else {
        Listeners::bind_from(&settings.listen, settings.http_port, settings.app_port, "--http-port").await
    };
    let listeners = bound?;
    let port = listeners.port();
    if port != settings.http_port && settings.http_port != 0 {
        tracing::info!(port, taken = settings.http_port, "the HTTP port is taken; using the next free one");
    }
    let metrics = ops::metrics().map_err(anyhow::Error::msg)?;
    let hosts = Hosts::loopback_and(settings.allowed_hosts.iter().cloned());
    let late_routes = LateRoutes::default();
    let routes = ops::routes(readiness, metrics)
        .fallback_service(axum::routing::any(serve_late_routes).with_state(late_routes.clone()))
        .layer(axum::middleware::from_fn(server_timing));
    let stop = CancellationToken::new();
    let terms = Terms { protocol: Protocol::Http, hosts, limits, budget };
    let server = serving::server::serve(listeners, routes, terms, stop.clone());
    Ok((port, HttpApiServer { routes: late_routes, server, stop }))
}
