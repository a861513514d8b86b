//! REST API of the ledger. Handlers validate requests, call the services and render responses.

mod batch;
mod event;
mod events;
mod feed;
mod locks;
mod reads;
mod shards;
mod states;

use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post};
use serving::body;

use crate::Ledger;

/// OpenAPI documents of the routes, in display order.
pub const OPENAPI_DOCUMENTS: [&str; 7] = [
    include_str!("../../openapi/ledger.yaml"),
    include_str!("../../openapi/writing.yaml"),
    include_str!("../../openapi/reading.yaml"),
    include_str!("../../openapi/feed.yaml"),
    include_str!("../../openapi/locks.yaml"),
    include_str!("../../openapi/states.yaml"),
    include_str!("../../openapi/shards.yaml"),
];

/// Router of the ledger's endpoints.
pub fn build_ledger_routes(ledger: Arc<Ledger>) -> Router {
    Router::new()
        .route("/v1/events", post(events::post_events))
        .route("/v1/batch", post(batch::post_batch))
        .route("/v1/balances/{type}", get(reads::get_balances))
        .route("/v1/turnovers/{type}", get(reads::get_turnovers))
        .route("/v1/events/{type}", get(reads::list_account_events))
        .route("/v1/feed/{shard}", get(feed::get_feed))
        .route("/v1/types", get(shards::get_types))
        .route("/v1/shards", get(shards::get_shards))
        .merge(locks::build_lock_routes())
        .merge(states::build_state_routes())
        .method_not_allowed_fallback(body::method_not_allowed)
        .with_state(ledger)
}
