//! A minimal reconciler: writes the banners of a bundle to a table. `docs/reconcile.md` explains
//! it; the tests run it.

use std::collections::BTreeMap;

use futures::future::BoxFuture;
use reconcile::plan::{PlanApproval, diff_fields};
use reconcile::{DesiredShardConfig, ReconcileContext, ReconcileError, ReconcilePlan, Reconciler};
use serde::Deserialize;
use serde_json::{Value as Json, json};
use sqlx::PgPool;
use store::PgConnection;

/// A document of the schema `/banners/banner-1.yml`.
#[derive(Debug, Clone, Deserialize)]
pub struct Banner {
    /// Page that shows the banner; unique.
    pub page: String,
    /// Text of the banner.
    pub text: String,
}

/// Writes banners to the table `banners (page text PRIMARY KEY, text text, owner text)`.
pub struct BannerReconciler {
    /// Pool of the target database.
    pub pool: PgPool,
}

/// Arguments: `--arg page=home`, or `--shard home`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BannerArguments {
    /// Reconcile only this page's banner.
    #[serde(default)]
    page: Option<String>,
}

type TextsByPage = BTreeMap<String, String>;

/// Desired texts by page. The context is the only access to the bundle: it rejects schemas that the
/// metadata does not list.
fn desired_banners(context: &ReconcileContext<'_>) -> Result<TextsByPage, ReconcileError> {
    let banners: Vec<Banner> = context.query_documents("/banners/banner-1.yml")?;
    Ok(banners.into_iter().map(|banner| (banner.page, banner.text)).collect())
}

/// Plans the changes: a pure function, tested without a database.
pub fn plan_banners(stored: &TextsByPage, desired: &TextsByPage) -> ReconcilePlan {
    let mut plan = ReconcilePlan::default();
    for (page, text) in desired {
        match stored.get(page) {
            None => plan.add_create("banner", page, &json!({"text": text})),
            Some(old) if old != text => {
                plan.add_update(
                    "banner",
                    page,
                    diff_fields(&json!({"text": old}), &json!({"text": text})),
                );
            }
            Some(_) => {}
        }
    }
    for (page, text) in stored.iter().filter(|(page, _)| !desired.contains_key(*page)) {
        plan.add_delete("banner", page, &json!({"text": text}));
    }
    plan
}

impl Reconciler for BannerReconciler {
    type Arguments = BannerArguments;

    fn name(&self) -> &'static str {
        "banners"
    }

    fn run<'a>(
        &'a self,
        context: &'a ReconcileContext<'a>,
        BannerArguments { page }: BannerArguments,
        dry_run: bool,
    ) -> BoxFuture<'a, Result<ReconcilePlan, ReconcileError>> {
        Box::pin(async move {
            let mut desired = desired_banners(context)?;
            desired.retain(|known, _| page.as_ref().is_none_or(|page| page == known));
            // A dry run has nothing that somebody could approve.
            let approval = (!dry_run).then(|| context.approval());
            store::transaction("reconcile_banners", (desired, page, approval))
                .run(&self.pool, |connection, (desired, page, approval)| {
                    Box::pin(reconcile_in_tx(connection, desired, page, approval))
                })
                .await?
        })
    }

    fn early_exit_desired_state(
        &self,
        context: &ReconcileContext<'_>,
    ) -> Result<Option<Json>, ReconcileError> {
        let entry =
            |(page, text): (String, String)| (page.clone(), json!({"page": page, "text": text}));
        Ok(Some(desired_banners(context)?.into_iter().map(entry).collect()))
    }

    fn desired_state_shard_config(&self) -> Option<DesiredShardConfig> {
        // More than a hundred pages are as quick all at once.
        Some(DesiredShardConfig {
            parameter: "page",
            selectors: &["$.*.page"],
            review: |pages| pages.len() <= 100,
        })
    }
}

/// Locks, reads, plans, checks the approval and writes in one transaction: a crash
/// leaves no partial change.
async fn reconcile_in_tx(
    connection: &mut PgConnection,
    desired: &TextsByPage,
    page: &Option<String>,
    approval: &Option<PlanApproval>,
) -> store::Result<Result<ReconcilePlan, ReconcileError>> {
    match approval {
        None => reconcile::set_read_only_in_tx(connection).await?,
        Some(_) => reconcile::exclude_other_runs_in_tx(connection, "banners").await?,
    }
    // What belongs to others is none of ours.
    let stored: Vec<(String, String)> = sqlx::query_as(
        "SELECT page, text FROM banners WHERE owner IN ('builtin', 'bundle') AND page = coalesce($1, page) -- read_banners",
    )
    .bind(page)
    .fetch_all(&mut *connection)
    .await?;
    let stored = stored.into_iter().collect();
    let mut plan = plan_banners(&stored, desired);
    plan.bind_target_part(page.as_deref().unwrap_or_default(), &stored);
    let Some(approval) = approval else { return Ok(Ok(plan)) };
    if let Err(moved) = approval.check(&plan) {
        return Ok(Err(moved));
    }
    write_banners_in_tx(connection, &stored, desired).await?;
    Ok(Ok(plan))
}

async fn write_banners_in_tx(
    connection: &mut PgConnection,
    stored: &TextsByPage,
    desired: &TextsByPage,
) -> store::Result<()> {
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
