//! Stored templates, by name.

use sqlx::PgPool;
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

/// Stores a template and returns its version. The same text keeps the version.
pub async fn put_template(pool: &PgPool, name: &str, template: &str) -> Result<i32> {
    store::statement(
        "put_template",
        "INSERT INTO configurator_templates AS t (name, template) VALUES ($1, $2)
         ON CONFLICT (name) DO UPDATE
             SET template = excluded.template,
                 version = t.version + (t.template <> excluded.template)::int,
                 changed_at = CASE WHEN t.template <> excluded.template THEN now() ELSE t.changed_at END
         RETURNING version",
    )
    .bind(name)
    .bind(template)
    .fetch_value(pool)
    .await
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
