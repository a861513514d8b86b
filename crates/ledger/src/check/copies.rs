//! Check of redundant copies: attribute sets (canonical text, and JSON for filters and groups) and
//! states (content, and the hashes for lookup and dedup).

use serde_json::{Map, Value};
use sqlx::FromRow;
use sqlx::postgres::PgRow;
use store::Result;
use uuid::Uuid;

use super::report::{LedgerCheckKind, LedgerCheckReport};
use super::snapshot::{ShardSnapshot, SnapshotCursor, SnapshotCursorRows};
use crate::attributes::hash_ledger_key;
use crate::events::intern_attribute_set;
use crate::ids::AttributeSetId;
use crate::sharding::parse_canonical;
use crate::states::fingerprint_state;

/// Checks all redundant copies of a shard.
pub(super) async fn check_copies(
    shard: &str,
    snapshot: &mut ShardSnapshot,
    report: &mut LedgerCheckReport,
) -> Result<()> {
    for_each_row(snapshot, ATTRIBUTE_SETS_CURSOR, |row: AttributeSetRow| {
        if let Some(what) = row.find_problem() {
            report.add_difference(Some(shard), LedgerCheckKind::Content, what);
        }
    })
    .await?;
    for_each_row(snapshot, STATES_CURSOR, |row: LedgerCheckStateRow| {
        if let Some(what) = row.find_problem() {
            let LedgerCheckStateRow { type_name, attributes, .. } = row;
            report.add_difference(
                Some(shard),
                LedgerCheckKind::Content,
                format!("state {type_name} {attributes}: {what}"),
            );
        }
    })
    .await
}

async fn for_each_row<T: for<'r> FromRow<'r, PgRow> + Send + Unpin>(
    snapshot: &mut ShardSnapshot,
    cursor: SnapshotCursor,
    mut visit: impl FnMut(T),
) -> Result<()> {
    let mut rows = SnapshotCursorRows::open(snapshot, cursor).await?;
    while rows.fetch_page(snapshot).await? {
        rows.page().drain(..).for_each(&mut visit);
    }
    Ok(())
}

#[derive(store::FromRow)]
struct AttributeSetRow {
    tuple_id: AttributeSetId,
    canonical: String,
    attributes: String,
}

impl AttributeSetRow {
    fn find_problem(&self) -> Option<String> {
        let Self { tuple_id, canonical, attributes } = self;
        let name = if canonical.is_empty() { "without attributes" } else { canonical.as_str() };
        if intern_attribute_set(canonical.clone()).id != *tuple_id {
            return Some(format!("combination {name}: its id {tuple_id} is another combination's"));
        }
        let pairs = parse_canonical(canonical).into_iter();
        let meant =
            Value::Object(pairs.map(|(name, value)| (name, value.into())).collect::<Map<_, _>>());
        let kept: Value = serde_json::from_str(attributes).unwrap_or_default();
        (kept != meant).then(|| {
            format!(
                "combination {name}: filters and groups take it for {kept}, its events say {meant}"
            )
        })
    }
}

#[derive(store::FromRow)]
struct LedgerCheckStateRow {
    key: Uuid,
    type_name: String,
    attributes: String,
    state: String,
    content: Uuid,
}

impl LedgerCheckStateRow {
    fn find_problem(&self) -> Option<&'static str> {
        if hash_ledger_key(&self.type_name, &self.attributes) != self.key {
            return Some("lies under the key of another one");
        }
        match fingerprint_state(&self.state) {
            Ok(content) if content == self.content => None,
            Ok(_) => Some("is not what was written"),
            Err(_) => Some("is no JSON that the ledger takes"),
        }
    }
}

const ATTRIBUTE_SETS_CURSOR: SnapshotCursor = SnapshotCursor {
    declare_sql: "-- check_tuples
DECLARE check_tuples NO SCROLL CURSOR FOR SELECT tuple_id, canonical, attributes::text AS attributes FROM tuples",
    fetch_sql: "FETCH FORWARD 5000 FROM check_tuples -- check_tuples",
};

const STATES_CURSOR: SnapshotCursor = SnapshotCursor {
    declare_sql: "-- check_states
DECLARE check_states NO SCROLL CURSOR FOR SELECT key, type AS type_name, attributes, state, content FROM states",
    fetch_sql: "FETCH FORWARD 500 FROM check_states -- check_states",
};
