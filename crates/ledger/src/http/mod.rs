//! The REST API. Handlers check, ask the rooms, and shape answers; nothing else.

mod batch;
mod docs;
mod event;
mod events;
mod feed;
mod locks;
mod openapi;
mod path;
mod reads;
mod shards;
mod states;

use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post};
use serving::body;

use crate::Ledger;

/// The ledger's routes.
pub fn routes(ledger: Arc<Ledger>) -> Router {
    Router::new()
        .route("/v1/events", post(events::write))
        .route("/v1/batch", post(batch::write))
        .route("/v1/balances/{type}", get(reads::balances))
        .route("/v1/turnovers/{type}", get(reads::turnovers))
        .route("/v1/events/{type}", get(reads::list))
        .route("/v1/feed/{shard}", get(feed::feed))
        .route("/v1/types", get(shards::types))
        .route("/v1/shards", get(shards::shards))
        .merge(locks::routes())
        .route("/openapi.json", get(openapi::show))
        .route("/docs", get(docs::show))
        .merge(states::routes())
        .method_not_allowed_fallback(body::method_not_allowed)
        .with_state(ledger)
}
