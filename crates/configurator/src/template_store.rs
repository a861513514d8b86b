//! Stored templates, by name.

use audit::{AuditAction, AuditActor, AuditDifference, AuditEntry, record_entry};
use serde_json::Value as Json;
use sha2::{Digest as _, Sha256};
use sqlx::{PgConnection, PgPool};
use store::Result;

/// A stored template.
#[derive(Debug, Clone, PartialEq, Eq, store::FromRow)]
pub struct StoredBlockTemplate {
    /// Unique name of the template.
    pub name: String,
    /// Version from 1, incremented by every change of the text.
    pub version: i32,
    /// Text of the template, as YAML.
    pub template: String,
}

/// Stores a template and returns its version. The same text keeps the version; another one is
/// recorded in the audit trail.
pub async fn put_template(
    pool: &PgPool,
    name: &str,
    template: &str,
    actor: &AuditActor,
) -> Result<i32> {
    let arguments = (name.to_owned(), template.to_owned(), actor.clone());
    store::transaction("put_template", arguments)
        .run(pool, |connection, (name, template, actor)| {
            Box::pin(put_template_in_tx(connection, name, template, actor))
        })
        .await
}

async fn put_template_in_tx(
    connection: &mut PgConnection,
    name: &str,
    template: &str,
    actor: &AuditActor,
) -> Result<i32> {
    let (version, old) = match make_template(connection, name, template).await? {
        Some(version) => (version, None),
        None => {
            let old = lock_template(connection, name).await?;
            if old.template == template {
                return Ok(old.version);
            }
            (change_template(connection, name, template).await?, Some(old))
        }
    };
    // A template's text may hold secrets anywhere: the trail has its hash.
    let old = old.map(|old| describe_text(old.version, &old.template));
    let mut difference = AuditDifference::default();
    for (index, (field, after)) in describe_text(version, template).into_iter().enumerate() {
        let before = old.as_ref().map(|old| old[index].1.clone());
        difference = difference.with_field(field, before, Some(after));
    }
    let entry = AuditEntry::new(AuditAction::TemplatePut, "template", name, &difference);
    record_entry(connection, actor, &entry).await?;
    Ok(version)
}

/// The version of a new template; `None` if there is one of this name.
async fn make_template(
    connection: &mut PgConnection,
    name: &str,
    template: &str,
) -> Result<Option<i32>> {
    store::statement(
        "make_template",
        "INSERT INTO configurator_templates (name, template) VALUES ($1, $2)
         ON CONFLICT DO NOTHING RETURNING version",
    )
    .bind(name)
    .bind(template)
    .fetch_optional_value(connection)
    .await
}

/// The template of this name, which is there, locked until the transaction ends.
async fn lock_template(connection: &mut PgConnection, name: &str) -> Result<StoredBlockTemplate> {
    store::statement(
        "lock_template",
        "SELECT name, version, template FROM configurator_templates WHERE name = $1 FOR UPDATE",
    )
    .bind(name)
    .fetch_one(connection)
    .await
}

/// Replaces the text, and returns the new version.
async fn change_template(connection: &mut PgConnection, name: &str, template: &str) -> Result<i32> {
    store::statement(
        "change_template",
        "UPDATE configurator_templates SET template = $2, version = version + 1, changed_at = now()
         WHERE name = $1 RETURNING version",
    )
    .bind(name)
    .bind(template)
    .fetch_value(connection)
    .await
}

fn describe_text(version: i32, text: &str) -> [(&'static str, Json); 3] {
    let hash = Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    [("version", version.into()), ("bytes", text.len().into()), ("sha256", hash.into())]
}

/// The template of this name, if any.
pub async fn get_template(pool: &PgPool, name: &str) -> Result<Option<StoredBlockTemplate>> {
    store::statement(
        "get_template",
        "SELECT name, version, template FROM configurator_templates WHERE name = $1",
    )
    .bind(name)
    .fetch_optional(pool)
    .await
}

/// Names and versions of the first 10,000 templates by name.
pub async fn list_templates(pool: &PgPool) -> Result<Vec<(String, i32)>> {
    store::statement(
        "list_templates",
        "SELECT name, version FROM configurator_templates ORDER BY name LIMIT 10000",
    )
    .fetch_all(pool)
    .await
}
