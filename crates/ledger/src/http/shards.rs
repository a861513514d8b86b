//! `GET /v1/types` and `GET /v1/shards`: type definitions and shard status.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};
use serving::query::NoQueryParameters;

use crate::Ledger;
use crate::moment;
use crate::sharding::Shard;
use crate::stats::ShardStats;
use crate::types::LedgerTypeCatalogue;

pub(super) async fn get_types(
    State(ledger): State<Arc<Ledger>>,
    NoQueryParameters: NoQueryParameters,
) -> Json<Value> {
    let types = ledger.types.current();
    let accounts = types
        .accounts
        .values()
        .map(|kind| render_type("/ledger/account-type-1.yml", json!(**kind)));
    let locks =
        types.locks.values().map(|kind| render_type("/ledger/lock-type-1.yml", json!(**kind)));
    let states =
        types.states.values().map(|kind| render_type("/ledger/state-type-1.yml", json!(**kind)));
    Json(json!({
        "account_types": accounts.collect::<Vec<_>>(),
        "lock_types": locks.collect::<Vec<_>>(),
        "state_types": states.collect::<Vec<_>>(),
    }))
}

/// The definition with the path of its JSON schema.
fn render_type(schema: &str, definition: Value) -> Value {
    let mut shown = json!({"$schema": schema});
    if let (Some(shown), Value::Object(definition)) = (shown.as_object_mut(), definition) {
        shown.extend(definition);
    }
    shown
}

pub(super) async fn get_shards(
    State(ledger): State<Arc<Ledger>>,
    NoQueryParameters: NoQueryParameters,
) -> Json<Value> {
    let types = ledger.types.current();
    let shown = ledger.shards.all().iter().map(|shard| render_shard(shard, types.clone()));
    Json(json!({"shards": futures::future::join_all(shown).await}))
}

/// An unavailable shard is rendered as such, so that the other shards stay visible.
async fn render_shard(shard: &Shard, types: Arc<LedgerTypeCatalogue>) -> Value {
    let mut shown = json!({"name": shard.name, "range": shard.range.to_hex()});
    match ShardStats::load(shard, &types).await {
        Ok(figures) => {
            shown["available"] = true.into();
            shown["events"] = (figures.last_seq.get() + figures.pending_events).into();
            shown["last_seq"] = figures.last_seq.get().into();
            shown["aggregated_seq"] = figures.aggregated_seq.get().into();
            shown["exported_seq"] = figures.exported_seq.get().into();
            shown["export_epoch"] = figures.export_epoch.into();
            shown["export_alarm"] = figures.export_alarm.into();
            shown["horizon"] = figures.horizon.map(moment::format_moment).into();
            shown["database_bytes"] = figures.database_bytes.into();
        }
        Err(error) => {
            tracing::warn!(shard = shard.name, %error, code = "UNAVAILABLE", "shard figures");
            shown["available"] = false.into();
        }
    }
    shown
}
