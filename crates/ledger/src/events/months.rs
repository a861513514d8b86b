//! Making the months that events are written into and that have no tables yet. Everybody who touches events waits while tables
//! are attached, so it is done by one at a time, and for all who wait for it.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgPool};
use store::{Error, LONG, Operation, Result, run};

use super::Known;

/// A call with events of more months than these makes tables that months of far times share.
const MAX_MONTHS_OF_THEIR_OWN: usize = 24;
/// How long to wait until others have made their months.
const TURN: Duration = Duration::from_secs(60);
/// Months of one caller that are attached at a time.
const AT_A_TIME: usize = 8;
/// The same with those of others.
const TOGETHER: usize = 24;

/// What the callers of a shard who are at it want.
#[derive(Debug, Default)]
pub(super) struct WantedMonths {
    /// By how many callers.
    wanted: Mutex<BTreeMap<DateTime<Utc>, usize>>,
    /// Held by whoever makes months.
    turn: tokio::sync::Mutex<()>,
}

/// A caller's months, for as long as it waits.
struct Wanting<'k> {
    all: &'k WantedMonths,
    months: Vec<DateTime<Utc>>,
}

impl WantedMonths {
    fn want(&self, months: &[DateTime<Utc>]) -> Wanting<'_> {
        let mut wanted = self.lock();
        months.iter().for_each(|month| *wanted.entry(*month).or_default() += 1);
        Wanting { all: self, months: months.to_vec() }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<DateTime<Utc>, usize>> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// These months, and some that others want.
    fn with_others(&self, mut months: Vec<DateTime<Utc>>, known: &Known) -> Vec<DateTime<Utc>> {
        let others: Vec<_> = self.lock().keys().filter(|month| !months.contains(month)).copied().collect();
        let room = TOGETHER.saturating_sub(months.len());
        months.extend(known.without_months(others).into_iter().take(room));
        months
    }
}

impl Drop for Wanting<'_> {
    fn drop(&mut self) {
        let mut wanted = self.all.lock();
        for month in &self.months {
            if let Some(callers) = wanted.get_mut(month) {
                *callers -= 1;
                if *callers == 0 {
                    wanted.remove(month);
                }
            }
        }
    }
}

/// Makes partitions for months that have none, in statements of their own: events of a month that is made in the transaction
/// that writes them could be seen a moment before others know of the month. One caller at a time makes them, for those who
/// wait, too, who hold no connection meanwhile.
pub(crate) async fn make_months(pool: &PgPool, known: &Known, months: Vec<DateTime<Utc>>) -> Result<()> {
    if months.is_empty() {
        return Ok(());
    }
    let sharing = months.len() > MAX_MONTHS_OF_THEIR_OWN;
    let all = &known.wanted_months;
    // Tables that months share are not for others, who want their own.
    let _wanting = (!sharing).then(|| all.want(&months));
    let turn = tokio::time::timeout(TURN, all.turn.lock()).await;
    let _turn = turn.map_err(|_| Error::Waited("others make tables for new months"))?;
    let mut missing = known.without_months(months);
    while !missing.is_empty() {
        let own: Vec<_> = missing.iter().take(AT_A_TIME).copied().collect();
        let together = if sharing { own.clone() } else { all.with_others(own.clone(), known) };
        let is_shared = together.len() > own.len();
        let made = match make(pool, together, missing.clone(), sharing).await {
            // Something about those of others: they will hear of it themselves. A database that does not answer is nobody's fault,
            // and is not asked again while others wait.
            Err(error) if is_shared && !matches!(error, Error::Unavailable(_) | Error::Waited(_)) => {
                tracing::debug!(%error, "months of several callers could not be made together");
                make(pool, own, missing.clone(), sharing).await
            }
            made => made,
        };
        let (made, left) = made?;
        known.have_months(&made);
        let done: Vec<_> = missing.into_iter().filter(|month| !left.contains(month)).collect();
        known.have_months(&done);
        missing = left;
    }
    Ok(())
}

/// Makes these, and answers them and those of `all` that are still missing: a table may hold others, too.
async fn make(
    pool: &PgPool,
    months: Vec<DateTime<Utc>>,
    all: Vec<DateTime<Utc>>,
    sharing: bool,
) -> Result<(Vec<DateTime<Utc>>, Vec<DateTime<Utc>>)> {
    let making = months.clone();
    let missing = run(pool, Operation::named("create_event_months").within(LONG), move |connection| {
        let (making, all) = (making.clone(), all.clone());
        Box::pin(async move {
            make_months_in_tx(connection, &making, sharing).await?;
            let missing = sqlx::query_scalar("SELECT missing_event_months($1) -- missing_event_months");
            Ok(missing.bind(all).fetch_one(connection).await?)
        })
    });
    Ok((months, missing.await?))
}

/// Makes partitions for months that have none; `sharing`: those of far times in common. The transaction must not touch events
/// besides, and should end at once: others wait for it.
pub(crate) async fn make_months_in_tx(
    connection: &mut PgConnection,
    months: &[DateTime<Utc>],
    sharing: bool,
) -> Result<()> {
    sqlx::query("SELECT create_event_months($1, $2) -- create_event_months")
        .bind(months)
        .bind(sharing)
        .execute(connection)
        .await?;
    Ok(())
}
