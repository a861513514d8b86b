//! Stored templates, by name.

use sqlx::PgPool;
use store::{Result, run_statement};

/// A stored template.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
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
    let (name, template) = (name.to_owned(), template.to_owned());
    run_statement(pool, "put_template", move |connection| {
        let (name, template) = (name.clone(), template.clone());
        Box::pin(async move {
            let version = sqlx::query_scalar(
                "INSERT INTO configurator_templates AS t (name, template) VALUES ($1, $2)
                 ON CONFLICT (name) DO UPDATE
                     SET template = excluded.template,
                         version = t.version + (t.template <> excluded.template)::int,
                         changed_at = CASE WHEN t.template <> excluded.template THEN now() ELSE t.changed_at END
                 RETURNING version -- put_template",
            );
            Ok(version.bind(name).bind(template).fetch_one(connection).await?)
        })
    })
    .await
}

/// The template of this name, if any.
pub async fn get_template(pool: &PgPool, name: &str) -> Result<Option<StoredBlockTemplate>> {
    let name = name.to_owned();
    run_statement(pool, "get_template", move |connection| {
        let name = name.clone();
        Box::pin(async move {
            let query = sqlx::query_as(
                "SELECT name, version, template FROM configurator_templates WHERE name = $1 -- get_template",
            );
            Ok(query.bind(name).fetch_optional(connection).await?)
        })
    })
    .await
}

/// Names and versions of the first 10,000 templates by name.
pub async fn list_templates(pool: &PgPool) -> Result<Vec<(String, i32)>> {
    run_statement(pool, "list_templates", |connection| {
        Box::pin(async move {
            let query = sqlx::query_as(
                "SELECT name, version FROM configurator_templates ORDER BY name LIMIT 10000 -- list_templates",
            );
            Ok(query.fetch_all(connection).await?)
        })
    })
    .await
}
