//! REST API of the ledger. Handlers validate requests, call the services and render responses.

mod batch;
mod event;
mod events;
mod feed;
mod locks;
mod reads;
mod shards;
mod states;
mod type_access;

use std::sync::Arc;

use access::{RouteAccess, Scope};
use serving::body;
use serving::scoped_router::ScopedRouter;

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
pub fn build_ledger_routes(ledger: Arc<Ledger>) -> ScopedRouter {
    const READ_TYPE: RouteAccess = RouteAccess::TypeInPath(Scope::LedgerRead);
    const WRITE_TYPES: RouteAccess = RouteAccess::TypeInBody(Scope::LedgerWrite);
    ScopedRouter::new()
        .post("/v1/events", WRITE_TYPES, events::post_events)
        .post("/v1/batch", WRITE_TYPES, batch::post_batch)
        .get("/v1/balances/{type}", READ_TYPE, reads::get_balances)
        .get("/v1/turnovers/{type}", READ_TYPE, reads::get_turnovers)
        .get("/v1/events/{type}", READ_TYPE, reads::list_account_events)
        .get("/v1/feed/{shard}", Scope::LedgerRead, feed::get_feed)
        .get("/v1/types", Scope::LedgerRead, shards::get_types)
        .get("/v1/shards", Scope::LedgerRead, shards::get_shards)
        .merge(locks::build_lock_routes())
        .merge(states::build_state_routes())
        .method_not_allowed_fallback(body::method_not_allowed)
        .with_state(ledger)
}
