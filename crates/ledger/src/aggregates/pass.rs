//! A pass of the aggregator, on request: until a shard's aggregates hold every event that had a number when it began.
//!
//! It stands by as one more aggregator until then. So it does the work itself if nobody else is there to do it, and
//! otherwise only waits for whoever is.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use sqlx::PgPool;
use store::{Error, LeaseTerms, Result, Work, do_duties, run};
use tokio_util::sync::CancellationToken;

use super::{Aggregator, DUTY, Wanted};

/// The time between looks.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Returns, when everything that had a number has been aggregated, the last of these numbers. May be dropped at any time.
pub async fn pass(aggregator: Aggregator) -> Result<i64> {
    let pool = aggregator.pool.clone();
    let goal = last_seq(&pool).await?;
    let wanted = Arc::new(Wanted::of(&aggregator.types.now()));
    if aggregated(&pool, &wanted, goal).await? {
        return Ok(goal);
    }
    let stop = CancellationToken::new();
    let _stops = stop.clone().drop_guard();
    let work: Work = Arc::new(move |lease| Box::pin(aggregator.clone().run(lease)));
    let duties = HashMap::from([(DUTY, work)]);
    let standing_by = tokio::spawn(do_duties(pool.clone(), LeaseTerms::default(), duties, stop.clone()));
    while !aggregated(&pool, &wanted, goal).await? {
        tokio::time::sleep(LOOK_EVERY).await;
    }
    stop.cancel();
    standing_by.await.map_err(|_| Error::Abandoned)?;
    Ok(goal)
}

async fn last_seq(pool: &PgPool) -> Result<i64> {
    run(pool, "last_seq", |connection| {
        Box::pin(async move {
            let last = sqlx::query_scalar("SELECT last_seq FROM sequence -- last_seq");
            Ok(last.fetch_one(connection).await?)
        })
    })
    .await
}

/// Whether all groupings of types that have accounts hold the events up to this number.
async fn aggregated(pool: &PgPool, wanted: &Arc<Wanted>, goal: i64) -> Result<bool> {
    let wanted = wanted.clone();
    run(pool, "aggregated_up_to", move |connection| {
        let wanted = wanted.clone();
        Box::pin(async move {
            let aggregated = sqlx::query_scalar(AGGREGATED)
                .bind(&wanted.types)
                .bind(&wanted.attributes)
                .bind(&wanted.intervals)
                .bind(goal);
            Ok(aggregated.fetch_one(connection).await?)
        })
    })
    .await
}

const AGGREGATED: &str = "-- aggregated_up_to
SELECT NOT EXISTS (
    SELECT FROM unnest($1::text[], $2::text[], $3::text[]) AS w (type, attributes, interval)
    LEFT JOIN groupings g USING (type, attributes, interval)
    WHERE coalesce(g.aggregated_seq, 0) < $4 AND EXISTS (SELECT FROM accounts a WHERE a.type = w.type)
)";
