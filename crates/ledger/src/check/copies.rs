//! What is kept twice, because it is read in two ways: both must say the same. The combinations of auxiliary attributes
//! (a canonical text that names them, and a JSON object that filters and groups), and states (what they are of and what
//! they say, and the hashes that find them and know a repetition).

use serde_json::{Map, Value};
use sqlx::FromRow;
use sqlx::postgres::PgRow;
use store::Result;
use uuid::Uuid;

use super::report::{Kind, Report};
use super::snapshot::{Cursor, Ordered, Snapshot};
use crate::attributes::keyed_by;
use crate::events::tuple;
use crate::sharding::parse_canonical;
use crate::states::content;

/// Checks all of a shard's copies.
pub(super) async fn check(shard: &str, snapshot: &mut Snapshot, report: &mut Report) -> Result<()> {
    each(snapshot, TUPLES, |row: TupleRow| {
        if let Some(what) = row.wrong() {
            report.add(Some(shard), Kind::Content, what);
        }
    })
    .await?;
    each(snapshot, STATES, |row: StateRow| {
        if let Some(what) = row.wrong() {
            let StateRow { type_name, attributes, .. } = row;
            report.add(Some(shard), Kind::Content, format!("state {type_name} {attributes}: {what}"));
        }
    })
    .await
}

async fn each<T: for<'r> FromRow<'r, PgRow> + Send + Unpin>(
    snapshot: &mut Snapshot,
    cursor: Cursor,
    mut look: impl FnMut(T),
) -> Result<()> {
    let mut rows = Ordered::open(snapshot, cursor).await?;
    while rows.refill(snapshot).await? {
        rows.page().drain(..).for_each(&mut look);
    }
    Ok(())
}

#[derive(FromRow)]
struct TupleRow {
    tuple_id: i64,
    canonical: String,
    attributes: String,
}

impl TupleRow {
    fn wrong(&self) -> Option<String> {
        let Self { tuple_id, canonical, attributes } = self;
        let name = if canonical.is_empty() { "without attributes" } else { canonical.as_str() };
        if tuple(canonical.clone()).id != *tuple_id {
            return Some(format!("combination {name}: its id {tuple_id} is another combination's"));
        }
        let pairs = parse_canonical(canonical).into_iter();
        let meant = Value::Object(pairs.map(|(name, value)| (name, value.into())).collect::<Map<_, _>>());
        let kept: Value = serde_json::from_str(attributes).unwrap_or_default();
        (kept != meant).then(|| {
            format!("combination {name}: filters and groups take it for {kept}, its events say {meant}")
        })
    }
}

#[derive(FromRow)]
struct StateRow {
    key: Uuid,
    type_name: String,
    attributes: String,
    state: String,
    content: Uuid,
}

impl StateRow {
    fn wrong(&self) -> Option<&'static str> {
        if keyed_by(&self.type_name, &self.attributes) != self.key {
            return Some("lies under the key of another one");
        }
        match content(&self.state) {
            Ok(content) if content == self.content => None,
            Ok(_) => Some("is not what was written"),
            Err(_) => Some("is no JSON that the ledger takes"),
        }
    }
}

const TUPLES: Cursor = Cursor {
    declare: "-- check_tuples
DECLARE check_tuples NO SCROLL CURSOR FOR SELECT tuple_id, canonical, attributes::text AS attributes FROM tuples",
    fetch: "FETCH FORWARD 5000 FROM check_tuples -- check_tuples",
};

const STATES: Cursor = Cursor {
    declare: "-- check_states
DECLARE check_states NO SCROLL CURSOR FOR SELECT key, type AS type_name, attributes, state, content FROM states",
    fetch: "FETCH FORWARD 500 FROM check_states -- check_states",
};
