//! Writing states.

use sqlx::PgConnection;
use store::Result;
use uuid::Uuid;

use crate::attributes::Keyed;
use crate::json::{self, Refused};
use crate::sharding::digest;

/// One state to write.
#[derive(Debug, Clone)]
pub struct Put {
    /// Of what.
    pub(crate) of: Keyed,
    state: String,
    /// Of what the state says.
    content: Uuid,
    expected: Option<i64>,
}

/// What became of a put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The state is there under this version.
    Done {
        /// The version.
        version: i64,
    },
    /// Another version is there than was expected.
    Stale {
        /// The one that is there; 0: none.
        version: i64,
    },
}

impl Put {
    /// A write of `state` (JSON, kept as it is), where `expected` is the version to be replaced: 0 if there must be
    /// none, `None` to replace whatever there is.
    pub fn new(of: Keyed, state: &str, expected: Option<i64>) -> Result<Self, Refused> {
        let content = content(state)?;
        Ok(Self { of, state: state.trim().to_owned(), content, expected })
    }
}

/// A hash of what a state says, in whatever spelling.
pub(crate) fn content(state: &str) -> Result<Uuid, Refused> {
    let meaning = json::canonical(state)?;
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, ..] = digest([meaning.as_bytes()]);
    Ok(Uuid::from_bytes([a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]))
}

/// Puts states within the caller's transaction, in one statement; outcomes in the order of `puts`. If one is stale the
/// others are written all the same: a caller that wants all or nothing rolls back. Of puts of the same state the
/// later one comes later.
pub async fn put_in_tx(connection: &mut PgConnection, puts: &[Put]) -> Result<Vec<Outcome>> {
    let column = |of: fn(&Put) -> &str| puts.iter().map(of).collect::<Vec<&str>>();
    let rows: Vec<(i32, i64, bool)> = sqlx::query_as(
        "SELECT place, now_version, done FROM put_states($1, $2, $3, $4, $5, $6) ORDER BY place -- put_states",
    )
    .bind(puts.iter().map(|put| put.of.key).collect::<Vec<_>>())
    .bind(column(|put| &put.of.type_name))
    .bind(column(|put| &put.of.attributes))
    .bind(column(|put| &put.state))
    .bind(puts.iter().map(|put| put.content).collect::<Vec<_>>())
    .bind(puts.iter().map(|put| put.expected).collect::<Vec<_>>())
    .fetch_all(connection)
    .await?;
    let outcome =
        |(_, version, done)| if done { Outcome::Done { version } } else { Outcome::Stale { version } };
    Ok(rows.into_iter().map(outcome).collect())
}

/// The versions that these very puts made, in their order, if each of them made the state's present version.
pub(crate) async fn made_versions(connection: &mut PgConnection, puts: &[Put]) -> Result<Option<Vec<i64>>> {
    let versions: Vec<Option<i64>> = sqlx::query_scalar(
        "SELECT s.version FROM unnest($1::uuid[], $2::uuid[], $3::bigint[]) WITH ORDINALITY AS p (key, content, expected, place)
         LEFT JOIN states s ON s.key = p.key AND s.content = p.content AND s.expected IS NOT DISTINCT FROM p.expected
         ORDER BY p.place -- made_versions",
    )
    .bind(puts.iter().map(|put| put.of.key).collect::<Vec<_>>())
    .bind(puts.iter().map(|put| put.content).collect::<Vec<_>>())
    .bind(puts.iter().map(|put| put.expected).collect::<Vec<_>>())
    .fetch_all(connection)
    .await?;
    Ok(versions.into_iter().collect())
}
