//! Writing states.

use sqlx::PgConnection;
use store::Result;
use uuid::Uuid;

use crate::attributes::LedgerKey;
use crate::json::{self, JsonRefusal};
use crate::sharding::digest_parts;

/// One state to write.
#[derive(Debug, Clone)]
pub struct StateWrite {
    /// Of what.
    pub(crate) target: LedgerKey,
    state: String,
    /// Of what the state says.
    fingerprint: Uuid,
    expected_version: Option<i64>,
}

/// What became of a put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StateWriteOutcome {
    /// The state is there under this version.
    Written {
        /// The version.
        version: i64,
    },
    /// Another version is there than was expected.
    Stale {
        /// The one that is there; 0: none.
        version: i64,
    },
}

impl StateWrite {
    /// A write of `state` (JSON, kept as it is), where `expected_version` is the version to be replaced: 0 if there must be
    /// none, `None` to replace whatever there is.
    pub fn new(
        target: LedgerKey,
        state: &str,
        expected_version: Option<i64>,
    ) -> Result<Self, JsonRefusal> {
        let fingerprint = fingerprint_state(state)?;
        Ok(Self { target, state: state.trim().to_owned(), fingerprint, expected_version })
    }
}

/// A hash of what a state says, in whatever spelling.
pub(crate) fn fingerprint_state(state: &str) -> Result<Uuid, JsonRefusal> {
    let meaning = json::canonicalize_json(state)?;
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, ..] = digest_parts([meaning.as_bytes()]);
    Ok(Uuid::from_bytes([a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]))
}

/// Puts states within the caller's transaction, in one statement; outcomes in the order of `writes`. If one is stale the
/// others are written all the same: a caller that wants all or nothing rolls back. Of puts of the same state the
/// later one comes later.
pub async fn put_states_in_tx(
    connection: &mut PgConnection,
    writes: &[StateWrite],
) -> Result<Vec<StateWriteOutcome>> {
    let column = |of: fn(&StateWrite) -> &str| writes.iter().map(of).collect::<Vec<&str>>();
    let rows: Vec<(i32, i64, bool)> = sqlx::query_as(
        "SELECT place, now_version, done FROM put_states($1, $2, $3, $4, $5, $6) ORDER BY place -- put_states",
    )
    .bind(writes.iter().map(|put| put.target.key_hash).collect::<Vec<_>>())
    .bind(column(|put| &put.target.type_name))
    .bind(column(|put| &put.target.attributes))
    .bind(column(|put| &put.state))
    .bind(writes.iter().map(|put| put.fingerprint).collect::<Vec<_>>())
    .bind(writes.iter().map(|put| put.expected_version).collect::<Vec<_>>())
    .fetch_all(connection)
    .await?;
    let outcome = |(_, version, done)| {
        if done {
            StateWriteOutcome::Written { version }
        } else {
            StateWriteOutcome::Stale { version }
        }
    };
    Ok(rows.into_iter().map(outcome).collect())
}

/// The versions that these very puts made, in their order, if each of them made the state's present version.
pub(crate) async fn read_written_versions(
    connection: &mut PgConnection,
    writes: &[StateWrite],
) -> Result<Option<Vec<i64>>> {
    let versions: Vec<Option<i64>> = sqlx::query_scalar(
        "SELECT s.version FROM unnest($1::uuid[], $2::uuid[], $3::bigint[]) WITH ORDINALITY AS p (key, content, expected, place)
         LEFT JOIN states s ON s.key = p.key AND s.content = p.content AND s.expected IS NOT DISTINCT FROM p.expected
         ORDER BY p.place -- made_versions",
    )
    .bind(writes.iter().map(|put| put.target.key_hash).collect::<Vec<_>>())
    .bind(writes.iter().map(|put| put.fingerprint).collect::<Vec<_>>())
    .bind(writes.iter().map(|put| put.expected_version).collect::<Vec<_>>())
    .fetch_all(connection)
    .await?;
    Ok(versions.into_iter().collect())
}
