//! The HTTP port: opens first, so that probes are answered while the database is still starting.

use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use serving::error::{ApiError, Code};
use serving::http_guard::{Hosts, guard};
use serving::listen::Listeners;
use serving::ops::{self, Readiness};
use serving::timing::server_timing;
use tower::ServiceExt as _;

use crate::settings::Settings;

/// The API's routes, once there are any: it needs the databases.
#[derive(Clone, Default)]
pub(super) struct Api(Arc<OnceLock<Router>>);

impl Api {
    /// From now on these are served.
    pub(super) fn open(&self, routes: Router) {
        let routes =
            routes.fallback(async || ApiError::new(Code::NotFound, "there is nothing at this address"));
        // A second time would be a second start.
        let _ = self.0.set(routes);
    }
}

async fn late(State(api): State<Api>, request: Request) -> Response {
    match api.0.get() {
        Some(routes) => routes.clone().oneshot(request).await.into_response(),
        None => serving::starting::answer(&request),
    }
}

/// Starts serving HTTP; answers the port and the place for the API's routes.
pub(super) async fn start(settings: &Settings, readiness: Readiness) -> anyhow::Result<(u16, Api)> {
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
    let api = Api::default();
    let routes = ops::routes(readiness, metrics)
        .fallback_service(axum::routing::any(late).with_state(api.clone()))
        .layer(axum::middleware::from_fn_with_state(hosts, guard))
        .layer(axum::middleware::from_fn(server_timing));
    for listener in listeners.into_inner() {
        let routes = routes.clone();
        tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, routes).await {
                tracing::error!(%error, code = "INTERNAL_ERROR", "HTTP server");
            }
        });
    }
    Ok((port, api))
}
