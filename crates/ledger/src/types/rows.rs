//! The types in the control database: one row each, `ledger_types`.

use reconcile::ObjectOwner;
use serde_json::Value as Json;
use sqlx::types::Json as Jsonb;
use sqlx::{PgConnection, PgPool};
use store::Result;

use super::{LedgerTypeCatalogue, LedgerTypeDefinition, LedgerTypeKind};

/// The channel on which changes of types are told.
pub const TYPES_CHANNEL: &str = "ledger_types";

/// A type and who owns it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerTypeRow {
    /// The type.
    pub definition: LedgerTypeDefinition,
    /// Whose it is.
    pub owner: ObjectOwner,
}

/// All types as they are now.
pub async fn load_types(pool: &PgPool) -> Result<LedgerTypeCatalogue> {
    let stored =
        store::run_statement(pool, "load_types", |connection| Box::pin(read_types(connection)))
            .await?;
    Ok(stored.into_iter().map(|stored| stored.definition).collect())
}

/// All types with their owners. One that this program does not understand (a newer one wrote it) is said and left out.
pub async fn read_types(connection: &mut PgConnection) -> Result<Vec<LedgerTypeRow>> {
    let report = |reason: &String| {
        tracing::error!(reason, code = "CONSISTENCY_ERROR", "a stored type is left out")
    };
    Ok(read_type_rows(connection)
        .await?
        .into_iter()
        .filter_map(|stored| stored.inspect_err(report).ok())
        .collect())
}

/// All types with their owners, or which one this program does not understand.
pub async fn read_all_types(
    connection: &mut PgConnection,
) -> Result<Result<Vec<LedgerTypeRow>, String>> {
    Ok(read_type_rows(connection).await?.into_iter().collect())
}

async fn read_type_rows(
    connection: &mut PgConnection,
) -> Result<Vec<Result<LedgerTypeRow, String>>> {
    let rows: Vec<(String, String, Json, String)> = sqlx::query_as(
        "SELECT kind, name, definition, owner FROM ledger_types ORDER BY kind, name -- load_types",
    )
    .fetch_all(connection)
    .await?;
    let stored = |(kind, name, definition, owner): (String, String, Json, String)| {
        let known = LedgerTypeKind::parse(&kind)
            .zip(ObjectOwner::parse(&owner))
            .ok_or_else(|| "unknown kind or owner".to_owned());
        let stored = known.and_then(|(kind, owner)| {
            let definition =
                kind.parse_definition(definition).map_err(|error| error.to_string())?;
            Ok(LedgerTypeRow { definition, owner })
        });
        stored.map_err(|reason| format!("the stored {kind} type {name} cannot be read: {reason}"))
    };
    Ok(rows.into_iter().map(stored).collect())
}

/// Creates or changes a type.
pub async fn put_type_in_tx(
    connection: &mut PgConnection,
    definition: &LedgerTypeDefinition,
    owner: ObjectOwner,
) -> Result<()> {
    sqlx::query(
        "INSERT INTO ledger_types (kind, name, definition, owner) VALUES ($1, $2, $3, $4)
         ON CONFLICT (kind, name) DO UPDATE
             SET definition = excluded.definition, owner = excluded.owner, changed_at = now() -- put_type",
    )
    .bind(definition.kind().name())
    .bind(definition.name())
    .bind(Jsonb(definition.to_json()))
    .bind(owner.name())
    .execute(connection)
    .await?;
    Ok(())
}

/// Deletes a type.
pub async fn delete_type_in_tx(
    connection: &mut PgConnection,
    kind: LedgerTypeKind,
    name: &str,
) -> Result<()> {
    sqlx::query("DELETE FROM ledger_types WHERE kind = $1 AND name = $2 -- delete_type")
        .bind(kind.name())
        .bind(name)
        .execute(connection)
        .await?;
    Ok(())
}

/// Tells every process, once the transaction is committed, that types have changed.
pub async fn notify_types_in_tx(connection: &mut PgConnection) -> Result<()> {
    sqlx::query("SELECT pg_notify($1, '') -- tell_types")
        .bind(TYPES_CHANNEL)
        .execute(connection)
        .await?;
    Ok(())
}
