//! `GET /v1/types` and `GET /v1/shards`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use crate::Ledger;
use crate::aggregates::Wanted;
use crate::export::Progress;
use crate::moment;
use crate::sharding::Shard;

pub(super) async fn types(State(ledger): State<Arc<Ledger>>) -> Json<Value> {
    let types = ledger.types.now();
    let with_schema = |schema: &str, definition: Value| {
        let mut shown = json!({"$schema": schema});
        if let (Some(shown), Value::Object(definition)) = (shown.as_object_mut(), definition) {
            shown.extend(definition);
        }
        shown
    };
    let accounts =
        types.accounts.values().map(|kind| with_schema("/ledger/account-type-1.yml", json!(**kind)));
    let locks = types.locks.values().map(|kind| with_schema("/ledger/lock-type-1.yml", json!(**kind)));
    let states = types.states.values().map(|kind| with_schema("/ledger/state-type-1.yml", json!(**kind)));
    Json(json!({
        "account_types": accounts.collect::<Vec<_>>(),
        "lock_types": locks.collect::<Vec<_>>(),
        "state_types": states.collect::<Vec<_>>(),
    }))
}

pub(super) async fn shards(State(ledger): State<Arc<Ledger>>) -> Json<Value> {
    let wanted = Arc::new(Wanted::of(&ledger.types.now()));
    let shown = ledger.shards.all().iter().map(|shard| show(shard, wanted.clone()));
    Json(json!({"shards": futures::future::join_all(shown).await}))
}

/// Numbered and pending events, and how far the aggregates have come: as far as the last of them that is kept for a type with
/// accounts here.
const FIGURES: &str = "-- shard_figures
SELECT (SELECT coalesce(sum(events), 0)::bigint FROM pending_batches), last_seq,
       coalesce((SELECT min(coalesce(g.aggregated_seq, 0))
                 FROM unnest($1::text[], $2::text[], $3::text[]) AS w (type, attributes, interval)
                 LEFT JOIN groupings g USING (type, attributes, interval)
                 WHERE EXISTS (SELECT FROM accounts a WHERE a.type = w.type)), last_seq), pg_database_size(current_database()),
       (SELECT horizon FROM horizon)
FROM sequence";

/// A shard that does not answer is shown as such: the others matter all the more then.
async fn show(shard: &Shard, wanted: Arc<Wanted>) -> Value {
    let figures = store::run(&shard.pool, "shard_figures", move |connection| {
        let wanted = wanted.clone();
        Box::pin(async move {
            let figures: (i64, i64, i64, i64, Option<DateTime<Utc>>) = sqlx::query_as(FIGURES)
                .bind(&wanted.types)
                .bind(&wanted.attributes)
                .bind(&wanted.intervals)
                .fetch_one(connection)
                .await?;
            Ok(figures)
        })
    });
    let mut shown = json!({"name": shard.name, "range": shard.range.hex()});
    // One after the other, so that nothing is shown as exported before it is shown as numbered.
    let looked = async { Ok::<_, store::Error>((Progress::load(&shard.pool).await?, figures.await?)) };
    match looked.await {
        Ok((export, (pending, last, aggregated, bytes, horizon))) => {
            shown["available"] = true.into();
            shown["events"] = (last + pending).into();
            shown["last_seq"] = last.into();
            shown["aggregated_seq"] = aggregated.into();
            shown["exported_seq"] = export.exported_seq.into();
            shown["export_epoch"] = export.epoch.into();
            shown["export_alarm"] = export.alarm.into();
            shown["horizon"] = horizon.map(moment::show).into();
            shown["database_bytes"] = bytes.into();
        }
        Err(error) => {
            tracing::warn!(shard = shard.name, %error, code = "UNAVAILABLE", "shard figures");
            shown["available"] = false.into();
        }
    }
    shown
}
