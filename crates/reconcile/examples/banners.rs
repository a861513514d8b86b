//! An integration as small as one can be: it brings the banners of a bundle into a table. `docs/reconcile.md` walks through
//! it; the tests run it.

use std::collections::BTreeMap;

use futures::future::BoxFuture;
use reconcile::plan::{Approval, diff};
use reconcile::{Context, Integration, Plan, RunError, ShardConfig};
use serde::Deserialize;
use serde_json::{Value as Json, json};
use sqlx::PgPool;
use store::PgConnection;

/// A file of the schema `/banners/banner-1.yml`.
#[derive(Debug, Clone, Deserialize)]
pub struct Banner {
    /// The page that shows it: there is one for each.
    pub page: String,
    /// What it says.
    pub text: String,
}

/// Brings banners into the table `banners (page text PRIMARY KEY, text text, owner text)`.
pub struct Banners {
    /// The database.
    pub pool: PgPool,
}

/// How it is run: `--arg page=home`, or `--shard home`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arguments {
    /// Only this page's banner.
    #[serde(default)]
    page: Option<String>,
}

type ByPage = BTreeMap<String, String>;

/// What is desired, by page. The only way to the bundle is the context: it lets nothing pass that the metadata does not list.
fn desired(context: &Context<'_>) -> Result<ByPage, RunError> {
    let banners: Vec<Banner> = context.query("/banners/banner-1.yml")?;
    Ok(banners.into_iter().map(|banner| (banner.page, banner.text)).collect())
}

/// Pure: from two states to a plan. Tests need no database for it.
pub fn plan(stored: &ByPage, desired: &ByPage) -> Plan {
    let mut plan = Plan::default();
    for (page, text) in desired {
        match stored.get(page) {
            None => plan.create("banner", page, &json!({"text": text})),
            Some(old) if old != text => {
                plan.update("banner", page, diff(&json!({"text": old}), &json!({"text": text})));
            }
            Some(_) => {}
        }
    }
    for (page, text) in stored.iter().filter(|(page, _)| !desired.contains_key(*page)) {
        plan.delete("banner", page, &json!({"text": text}));
    }
    plan
}

impl Integration for Banners {
    type Arguments = Arguments;

    fn name(&self) -> &'static str {
        "banners"
    }

    fn run<'a>(
        &'a self,
        context: &'a Context<'a>,
        Arguments { page }: Arguments,
        dry_run: bool,
    ) -> BoxFuture<'a, Result<Plan, RunError>> {
        Box::pin(async move {
            let mut desired = desired(context)?;
            desired.retain(|known, _| page.as_ref().is_none_or(|page| page == known));
            // A dry run has nothing that somebody could approve.
            let approval = (!dry_run).then(|| context.approval());
            store::run_tx(&self.pool, "reconcile_banners", move |connection| {
                let (desired, page, approval) = (desired.clone(), page.clone(), approval.clone());
                Box::pin(async move { run_in_tx(connection, &desired, page, approval).await })
            })
            .await?
        })
    }

    fn early_exit_desired_state(&self, context: &Context<'_>) -> Result<Option<Json>, RunError> {
        let entry = |(page, text): (String, String)| (page.clone(), json!({"page": page, "text": text}));
        Ok(Some(desired(context)?.into_iter().map(entry).collect()))
    }

    fn desired_state_shard_config(&self) -> Option<ShardConfig> {
        // More than a hundred pages are as quick all at once.
        Some(ShardConfig { parameter: "page", selectors: &["$.*.page"], review: |pages| pages.len() <= 100 })
    }
}

/// Others out, read, plan, show, write: one transaction, so a run that is killed leaves nothing half.
async fn run_in_tx(
    connection: &mut PgConnection,
    desired: &ByPage,
    page: Option<String>,
    approval: Option<Approval>,
) -> store::Result<Result<Plan, RunError>> {
    match approval {
        None => reconcile::read_only_in_tx(connection).await?,
        Some(_) => reconcile::exclude_others_in_tx(connection, "banners").await?,
    }
    // What belongs to others is none of ours.
    let stored: Vec<(String, String)> = sqlx::query_as(
        "SELECT page, text FROM banners WHERE owner IN ('builtin', 'bundle') AND page = coalesce($1, page) -- read_banners",
    )
    .bind(&page)
    .fetch_all(&mut *connection)
    .await?;
    let stored = stored.into_iter().collect();
    let mut plan = plan(&stored, desired);
    plan.observed_in(page.as_deref().unwrap_or_default(), &stored);
    let Some(approval) = approval else { return Ok(Ok(plan)) };
    if let Err(moved) = approval.check(&plan) {
        return Ok(Err(moved));
    }
    write_in_tx(connection, &stored, desired).await?;
    Ok(Ok(plan))
}

async fn write_in_tx(connection: &mut PgConnection, stored: &ByPage, desired: &ByPage) -> store::Result<()> {
    let (pages, texts): (Vec<&String>, Vec<&String>) = desired.iter().unzip();
    sqlx::query(
        "INSERT INTO banners (page, text, owner) SELECT page, text, 'bundle' FROM unnest($1::text[], $2::text[]) AS t (page, text)
         ON CONFLICT (page) DO UPDATE SET text = excluded.text, owner = excluded.owner -- put_banners",
    )
    .bind(pages)
    .bind(texts)
    .execute(&mut *connection)
    .await?;
    let gone: Vec<&String> = stored.keys().filter(|page| !desired.contains_key(*page)).collect();
    sqlx::query("DELETE FROM banners WHERE page = ANY ($1) -- delete_banners")
        .bind(gone)
        .execute(connection)
        .await?;
    Ok(())
}

/// Examples have one; the tests use what is above.
#[allow(dead_code)]
fn main() {}
