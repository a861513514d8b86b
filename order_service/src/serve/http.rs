//! HTTP port. It opens first, so that probes get answers while the database starts.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use serving::error::{ApiError, ErrorCode};
use serving::listen::PortListeners;
use serving::ops::{self, ServerReadiness};
use serving::scoped_router::ScopedRouter;
use serving::server::{RunningServer, ServerOptions};
use serving::timing::add_server_timing;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use crate::settings::ServiceSettings;

/// API routes, set once the databases are open.
type LateRoutes = Arc<OnceLock<Router>>;

/// HTTP server whose API routes are installed later.
pub(super) struct HttpApiServer {
    routes: LateRoutes,
    server: RunningServer,
    stop: CancellationToken,
}

impl HttpApiServer {
    /// Serves `routes` from now on.
    pub(super) fn install_routes(&self, routes: ScopedRouter) {
        let routes = routes.into_router().fallback(async || {
            ApiError::new(ErrorCode::NotFound, "there is nothing at this address")
        });
        // Can only fail on a second call, which does not happen.
        let _ = self.routes.set(routes);
    }

    /// Closes the port; requests in flight have `within` to finish.
    pub(super) async fn stop(&self, within: Duration) {
        self.stop.cancel();
        let _ = tokio::time::timeout(within, self.server.wait_until_closed()).await;
        self.server.close_connections();
    }
}

async fn serve_late_routes(State(api): State<LateRoutes>, request: Request) -> Response {
    match api.get() {
        Some(routes) => routes.clone().oneshot(request).await.into_response(),
        None => serving::startup_page::starting_response(&request),
    }
}

/// Starts the HTTP server; returns its port and handle.
pub(super) async fn start_http_server(
    settings: &ServiceSettings,
    readiness: ServerReadiness,
    options: ServerOptions,
) -> anyhow::Result<(u16, HttpApiServer)> {
    let bound = if settings.is_http_port_explicit {
        PortListeners::bind(&settings.listen, settings.http_port, "--http-port").await
    } else {
        PortListeners::bind_first_free(
            &settings.listen,
            settings.http_port,
            settings.app_port,
            "--http-port",
        )
        .await
    };
    let listeners = bound?;
    let port = listeners.port();
    if port != settings.http_port && settings.http_port != 0 {
        tracing::info!(
            port,
            taken = settings.http_port,
            "the HTTP port is taken; using the next free one"
        );
    }
    let metrics = ops::install_metrics().map_err(anyhow::Error::msg)?;
    let late_routes = LateRoutes::default();
    let late = axum::routing::any(serve_late_routes).with_state(late_routes.clone());
    let routes = ops::ops_routes(readiness, metrics).map_router(|router| {
        router.fallback_service(late).layer(axum::middleware::from_fn(add_server_timing))
    });
    let stop = CancellationToken::new();
    let server = serving::server::serve_routes(listeners, routes, options, stop.clone());
    Ok((port, HttpApiServer { routes: late_routes, server, stop }))
}
