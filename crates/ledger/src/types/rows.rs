//! Table `ledger_types` of the control database: one row per type.

use reconcile::ObjectOwner;
use serde_json::Value as Json;
use sqlx::types::Json as Jsonb;
use sqlx::{PgConnection, PgPool};
use store::Result;

use super::{LedgerTypeCatalogue, LedgerTypeDefinition, LedgerTypeKind};

/// NOTIFY channel for changes of types.
pub const TYPES_CHANNEL: &str = "ledger_types";

/// A stored type and its owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerTypeRow {
    /// Definition, parsed from its JSON.
    pub definition: LedgerTypeDefinition,
    /// Owner of the row, for reconciliation.
    pub owner: ObjectOwner,
}

/// All types in the control database; unreadable ones are left out.
pub async fn load_types(pool: &PgPool) -> Result<LedgerTypeCatalogue> {
    let stored =
        store::run_statement(pool, "load_types", |connection| Box::pin(read_types(connection)))
            .await?;
    Ok(stored.into_iter().map(|stored| stored.definition).collect())
}

/// All types with their owners. A type that this version cannot parse (written by a newer one) is
/// logged as an error and left out.
pub async fn read_types(connection: &mut PgConnection) -> Result<Vec<LedgerTypeRow>> {
    let mut types = Vec::new();
    for stored in read_type_rows(connection).await? {
        match stored {
            Ok(stored) => types.push(stored),
            Err(reason) => {
                tracing::error!(reason, code = "CONSISTENCY_ERROR", "a stored type is left out");
            }
        }
    }
    Ok(types)
}

/// All types with their owners, or an error that names the first type that this version cannot
/// parse.
pub async fn read_all_types(
    connection: &mut PgConnection,
) -> Result<Result<Vec<LedgerTypeRow>, String>> {
    Ok(read_type_rows(connection).await?.into_iter().collect())
}

async fn read_type_rows(
    connection: &mut PgConnection,
) -> Result<Vec<Result<LedgerTypeRow, String>>> {
    let rows: Vec<(String, String, Json, String)> = store::statement(
        "load_types",
        "SELECT kind, name, definition, owner FROM ledger_types ORDER BY kind, name",
    )
    .fetch_all(connection)
    .await?;
    let mut stored = Vec::with_capacity(rows.len());
    for (kind, name, definition, owner) in rows {
        stored.push(
            parse_type_row(&kind, definition, &owner).map_err(|reason| {
                format!("the stored {kind} type {name} cannot be read: {reason}")
            }),
        );
    }
    Ok(stored)
}

fn parse_type_row(kind: &str, definition: Json, owner: &str) -> Result<LedgerTypeRow, String> {
    let (Some(kind), Some(owner)) = (LedgerTypeKind::parse(kind), ObjectOwner::parse(owner)) else {
        return Err("unknown kind or owner".to_owned());
    };
    let definition = kind.parse_definition(definition).map_err(|error| error.to_string())?;
    Ok(LedgerTypeRow { definition, owner })
}

/// Upserts one type row.
pub async fn put_type_in_tx(
    connection: &mut PgConnection,
    definition: &LedgerTypeDefinition,
    owner: ObjectOwner,
) -> Result<()> {
    store::statement(
        "put_type",
        "INSERT INTO ledger_types (kind, name, definition, owner) VALUES ($1, $2, $3, $4)
         ON CONFLICT (kind, name) DO UPDATE
             SET definition = excluded.definition, owner = excluded.owner, changed_at = now()",
    )
    .bind(definition.kind().name())
    .bind(definition.name())
    .bind(Jsonb(definition.to_json()))
    .bind(owner.name())
    .execute(connection)
    .await?;
    Ok(())
}

/// Deletes a type by kind and name.
pub async fn delete_type_in_tx(
    connection: &mut PgConnection,
    kind: LedgerTypeKind,
    name: &str,
) -> Result<()> {
    store::statement("delete_type", "DELETE FROM ledger_types WHERE kind = $1 AND name = $2")
        .bind(kind.name())
        .bind(name)
        .execute(connection)
        .await?;
    Ok(())
}

/// Notifies all processes of changed types when the transaction commits.
pub async fn notify_types_in_tx(connection: &mut PgConnection) -> Result<()> {
    store::statement("tell_types", "SELECT pg_notify($1, '')")
        .bind(TYPES_CHANNEL)
        .execute(connection)
        .await?;
    Ok(())
}
