//! Writes of states: one statement for any number of puts.

use sqlx::PgConnection;
use store::Result;
use uuid::Uuid;

use crate::attributes::LedgerKey;
use crate::json::{self, JsonRefusal};
use crate::sharding::digest_parts;

/// One state to write.
#[derive(Debug, Clone)]
pub struct StateWrite {
    /// State type and key attributes.
    pub(crate) target: LedgerKey,
    state: String,
    /// Hash of the canonical JSON.
    fingerprint: Uuid,
    expected_version: Option<i64>,
}

/// Outcome of one put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StateWriteOutcome {
    /// The state is stored under this version.
    Written {
        /// Version after the put.
        version: i64,
    },
    /// The current version differs from the expected one.
    Stale {
        /// Current version; 0 if the state does not exist.
        version: i64,
    },
}

impl StateWriteOutcome {
    pub(super) fn is_stale(&self) -> bool {
        matches!(self, StateWriteOutcome::Stale { .. })
    }
}

impl StateWrite {
    /// A put of `state` (JSON, stored verbatim). `expected_version` is the version to replace: 0 if
    /// the state must not exist, `None` to replace any version.
    pub fn new(
        target: LedgerKey,
        state: &str,
        expected_version: Option<i64>,
    ) -> Result<Self, JsonRefusal> {
        let fingerprint = fingerprint_state(state)?;
        Ok(Self { target, state: state.trim().to_owned(), fingerprint, expected_version })
    }
}

/// Hash of a state's canonical JSON, independent of spelling.
pub(crate) fn fingerprint_state(state: &str) -> Result<Uuid, JsonRefusal> {
    let meaning = json::canonicalize_json(state)?;
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, ..] = digest_parts([meaning.as_bytes()]);
    Ok(Uuid::from_bytes([a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]))
}

/// Puts states in the caller's transaction with one statement; outcomes are in the order of
/// `writes`. A stale put does not stop the others: a caller that wants all or nothing rolls back.
/// Several puts of one state apply in the order of `writes`.
pub async fn put_states_in_tx(
    connection: &mut PgConnection,
    writes: &[StateWrite],
) -> Result<Vec<StateWriteOutcome>> {
    let rows: Vec<(i32, i64, bool)> = store::statement(
        "put_states",
        "SELECT place, now_version, done FROM put_states($1, $2, $3, $4, $5, $6) ORDER BY place",
    )
    .bind(writes.iter().map(|put| put.target.key_hash).collect::<Vec<_>>())
    .bind(writes.iter().map(|put| put.target.type_name.as_str()).collect::<Vec<_>>())
    .bind(writes.iter().map(|put| put.target.attributes.as_str()).collect::<Vec<_>>())
    .bind(writes.iter().map(|put| put.state.as_str()).collect::<Vec<_>>())
    .bind(writes.iter().map(|put| put.fingerprint).collect::<Vec<_>>())
    .bind(writes.iter().map(|put| put.expected_version).collect::<Vec<_>>())
    .fetch_all(connection)
    .await?;
    let mut outcomes = Vec::with_capacity(rows.len());
    for (_, version, is_written) in rows {
        outcomes.push(if is_written {
            StateWriteOutcome::Written { version }
        } else {
            StateWriteOutcome::Stale { version }
        });
    }
    Ok(outcomes)
}

/// Versions made by exactly these puts, in their order; `None` unless each made its state's current
/// version.
pub(crate) async fn read_written_versions(
    connection: &mut PgConnection,
    writes: &[StateWrite],
) -> Result<Option<Vec<i64>>> {
    let versions: Vec<Option<i64>> = store::statement(
        "made_versions",
        "SELECT s.version FROM unnest($1::uuid[], $2::uuid[], $3::bigint[]) WITH ORDINALITY AS p (key, content, expected, place)
         LEFT JOIN states s ON s.key = p.key AND s.content = p.content AND s.expected IS NOT DISTINCT FROM p.expected
         ORDER BY p.place",
    )
    .bind(writes.iter().map(|put| put.target.key_hash).collect::<Vec<_>>())
    .bind(writes.iter().map(|put| put.fingerprint).collect::<Vec<_>>())
    .bind(writes.iter().map(|put| put.expected_version).collect::<Vec<_>>())
    .fetch_values(connection)
    .await?;
    Ok(versions.into_iter().collect())
}
