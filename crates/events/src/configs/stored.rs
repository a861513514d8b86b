//! Stored configs: `action_configs`, and all versions in `action_config_history`.

use audit::{AuditAction, AuditActor, AuditDifference, AuditEntry, record_entry};
use chrono::{DateTime, Utc};
use reconcile::ObjectOwner;
use reconcile::plan::diff_fields;
use serde_json::Value as Json;
use sqlx::PgConnection;
use sqlx::types::Json as Jsonb;
use store::{Result, StatementTarget};

use super::{ACTION_CONFIG_KIND, ActionConfig, CompiledActionConfig};

/// `NOTIFY` channel of config changes.
pub const ACTION_CONFIGS_CHANNEL: &str = "action_configs";

/// A stored config with owner and time of change.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredActionConfig {
    /// The config, author set.
    pub config: ActionConfig,
    /// Owner, such as the bundle or the API.
    pub owner: ObjectOwner,
    /// Time of the last change.
    pub changed_at: DateTime<Utc>,
}

type ActionConfigRow = (String, Json, String, String, DateTime<Utc>);

/// Filter of stored configs; a field that is `None` does not restrict them.
#[derive(Debug, Clone, Copy, Default)]
pub struct ActionConfigFilter<'f> {
    /// Author of the config.
    pub author: Option<&'f str>,
    /// Event that one of its triggers names.
    pub event: Option<&'f str>,
    /// Name of the config.
    pub name: Option<&'f str>,
}

impl<'f> ActionConfigFilter<'f> {
    /// The config with this name.
    pub fn of_name(name: &'f str) -> Self {
        Self { name: Some(name), ..Self::default() }
    }
}

/// Configs by name. One that this version cannot parse (written by a newer version) is logged and
/// left out.
pub async fn read_configs(
    connection: &mut PgConnection,
    filter: ActionConfigFilter<'_>,
) -> Result<Vec<StoredActionConfig>> {
    select_configs(connection, "read_action_configs", filter).await
}

/// Like [`read_configs`], as the statement `operation` on a pool or a connection.
pub(crate) async fn select_configs(
    target: impl StatementTarget,
    operation: &'static str,
    filter: ActionConfigFilter<'_>,
) -> Result<Vec<StoredActionConfig>> {
    let rows: Vec<ActionConfigRow> = store::statement(operation, SELECT_CONFIGS_SQL)
        .bind(filter.author)
        .bind(filter.event)
        .bind(filter.name)
        .fetch_all(target)
        .await?;
    Ok(rows.into_iter().filter_map(parse_config_row).collect())
}

fn parse_config_row(
    (name, definition, author, owner, changed_at): ActionConfigRow,
) -> Option<StoredActionConfig> {
    let (config, owner) = (parse_definition(&name, definition)?, ObjectOwner::parse(&owner)?);
    Some(StoredActionConfig {
        config: ActionConfig { author: Some(author), ..config },
        owner,
        changed_at,
    })
}

fn parse_definition(name: &str, definition: Json) -> Option<ActionConfig> {
    let config = serde_json::from_value(definition);
    config
        .map_err(|error| {
            let code = "CONSISTENCY_ERROR";
            tracing::error!(config = name, %error, code, "a stored action config is left out");
        })
        .ok()
}

/// Row lock against other config writers until the transaction ends: later reads stay valid.
pub async fn lock_configs_in_tx(connection: &mut PgConnection) -> Result<()> {
    store::statement("hold_action_configs", "SELECT FROM action_configs_version FOR UPDATE")
        .execute(connection)
        .await?;
    Ok(())
}

/// Allocates the next version under a row lock held until the transaction ends, and notifies all
/// processes on commit.
pub async fn next_version_in_tx(connection: &mut PgConnection) -> Result<i64> {
    store::statement(
        "next_configs_version",
        "WITH told AS (SELECT pg_notify($1, ''))
         UPDATE action_configs_version SET version = version + 1 FROM told RETURNING version",
    )
    .bind(ACTION_CONFIGS_CHANNEL)
    .fetch_value(connection)
    .await
}

/// Upserts configs with their authors; each name at most once.
pub async fn put_configs_in_tx(
    connection: &mut PgConnection,
    configs: &[ActionConfig],
    owner: ObjectOwner,
    version: i64,
) -> Result<()> {
    if configs.is_empty() {
        return Ok(());
    }
    let authors = configs.iter().map(|config| config.author.as_deref().unwrap_or(owner.name()));
    store::statement("put_action_configs", PUT_CONFIGS_SQL)
        .bind(configs.iter().map(|config| config.name.as_str()).collect::<Vec<_>>())
        .bind(configs.iter().map(definition_without_author).collect::<Vec<_>>())
        .bind(authors.collect::<Vec<_>>())
        .bind(owner.name())
        .bind(version)
        .execute(connection)
        .await?;
    Ok(())
}

fn definition_without_author(config: &ActionConfig) -> Jsonb<Json> {
    Jsonb(ActionConfig { author: None, ..config.clone() }.to_json())
}

/// Deletes configs, and closes their history rows.
pub async fn delete_configs_in_tx(
    connection: &mut PgConnection,
    names: &[String],
    version: i64,
) -> Result<()> {
    if names.is_empty() {
        return Ok(());
    }
    store::statement(
        "delete_action_configs",
        "WITH ended AS (
            UPDATE action_config_history SET until = $2, until_at = now() WHERE name = ANY ($1) AND until IS NULL
        )
        DELETE FROM action_configs WHERE name = ANY ($1)",
    )
    .bind(names)
    .bind(version)
    .execute(connection)
    .await?;
    Ok(())
}

/// A config of one name and its owner, before or after a change; `None`: there is none.
pub(crate) type ConfigSide<'c> = Option<(&'c ActionConfig, ObjectOwner)>;

/// Records the change of one config in the audit trail.
pub(crate) async fn record_config_change_in_tx(
    connection: &mut PgConnection,
    actor: &AuditActor,
    name: &str,
    (old, new): (ConfigSide<'_>, ConfigSide<'_>),
) -> Result<()> {
    let side_json = |side: ConfigSide<'_>| {
        side.map_or_else(
            || serde_json::json!({}),
            |(config, owner)| {
                let mut shown = config.to_json();
                shown["owner"] = owner.name().into();
                shown
            },
        )
    };
    let mut difference = AuditDifference::default();
    for change in diff_fields(&side_json(old), &side_json(new)) {
        difference = difference.with_field(&change.field, change.before, change.after);
    }
    let action = match new {
        Some(_) => AuditAction::ActionConfigPut,
        None => AuditAction::ActionConfigDelete,
    };
    let entry = AuditEntry::new(action, ACTION_CONFIG_KIND, name, &difference);
    record_entry(connection, actor, &entry).await
}

/// Changes after a version.
pub struct ActionConfigChanges {
    /// Config version after these changes.
    pub version: i64,
    /// Changed configs by name; `None`: deleted.
    changes: Vec<(String, Option<ActionConfig>)>,
}

impl ActionConfigChanges {
    /// Compiles the configs: slow if they are many or have patterns.
    pub fn compile(self) -> Vec<(String, Option<CompiledActionConfig>)> {
        let mut compiled = Vec::with_capacity(self.changes.len());
        for (name, config) in self.changes {
            let config = config.and_then(|config| compile_config(&name, config));
            compiled.push((name, config));
        }
        compiled
    }
}

fn compile_config(name: &str, config: ActionConfig) -> Option<CompiledActionConfig> {
    match CompiledActionConfig::new(config) {
        Ok(compiled) => Some(compiled),
        // Validated when written, but perhaps by another program version.
        Err((field, reason)) => {
            let code = "CONSISTENCY_ERROR";
            tracing::error!(
                config = name,
                field,
                reason,
                code,
                "a stored action config is left out"
            );
            None
        }
    }
}

/// Changes after `version`, in one snapshot.
pub async fn changes_since(
    connection: &mut PgConnection,
    version: i64,
) -> Result<ActionConfigChanges> {
    let rows: Vec<(i64, Option<String>, Option<Json>)> =
        store::statement("changed_action_configs", CHANGED_CONFIGS_SQL)
            .bind(version)
            .fetch_all(connection)
            .await?;
    let now = rows.first().map_or(version, |(now, ..)| *now);
    let mut changes = Vec::new();
    for (_, name, definition) in rows {
        let Some(name) = name else { continue };
        let config = definition.and_then(|definition| parse_definition(&name, definition));
        changes.push((name, config));
    }
    Ok(ActionConfigChanges { version: now, changes })
}

/// Configs with a trigger on `event` at `version`, sorted by name.
pub async fn configs_as_of(
    connection: &mut PgConnection,
    event: &str,
    version: i64,
) -> Result<Vec<ActionConfig>> {
    let rows: Vec<(String, Json)> = store::statement(
        "configs_as_of",
        "SELECT name, definition FROM action_config_history
         WHERE events @> ARRAY[$1] AND since <= $2 AND (until IS NULL OR until > $2) ORDER BY name",
    )
    .bind(event)
    .bind(version)
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .filter_map(|(name, definition)| parse_definition(&name, definition))
        .collect())
}

const SELECT_CONFIGS_SQL: &str = "SELECT name, definition, author, owner, changed_at FROM action_configs
WHERE ($1::text IS NULL OR author = $1) AND ($2::text IS NULL OR $2 = ANY (events)) AND ($3::text IS NULL OR name = $3)
ORDER BY name";

const PUT_CONFIGS_SQL: &str = "WITH input AS MATERIALIZED (
    SELECT name, definition, author,
           ARRAY(SELECT DISTINCT trigger ->> 'event' FROM jsonb_array_elements(definition -> 'on') AS trigger) AS events
    FROM unnest($1::text[], $2::jsonb[], $3::text[]) AS t (name, definition, author)
), ended AS (
    UPDATE action_config_history h SET until = $5, until_at = now() FROM input i WHERE h.name = i.name AND h.until IS NULL
), kept AS (
    INSERT INTO action_config_history (name, since, definition, events) SELECT name, $5, definition, events FROM input
)
INSERT INTO action_configs (name, definition, author, owner, events, version)
SELECT name, definition, author, $4, events, $5 FROM input
ON CONFLICT (name) DO UPDATE
    SET definition = excluded.definition, author = excluded.author, owner = excluded.owner, events = excluded.events,
        version = excluded.version, changed_at = now()";

const CHANGED_CONFIGS_SQL: &str = "SELECT v.version, c.name, c.definition
FROM action_configs_version v LEFT JOIN (
    SELECT name, definition FROM action_configs WHERE version > $1
    UNION ALL
    SELECT DISTINCT h.name, NULL::jsonb FROM action_config_history h
    WHERE h.until > $1 AND NOT EXISTS (SELECT FROM action_configs c WHERE c.name = h.name)
) AS c ON true";
