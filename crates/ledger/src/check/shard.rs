//! One shard, as it is at one moment.

use store::Result;

use super::account::{Account, Of};
use super::report::{Report, ShardReport};
use super::rows::{self, EventRow, OfAccount, SumRow};
use super::snapshot::{Ordered, Snapshot};
use super::twice::Twice;
use super::{Advance, contents, copies, numbers};
use crate::aggregates::Grouping;
use crate::sharding::{Shard, Shards};
use crate::types::{Catalogue, Interval};

pub(super) async fn check_shard(
    shard: &Shard,
    shards: &Shards,
    types: &Catalogue,
    twice: &mut Twice,
    report: &mut Report,
    advanced: &mut impl FnMut(Advance<'_>),
) -> Result<()> {
    let mut snapshot = Snapshot::take(&shard.pool).await?;
    let written = numbers::written(&mut snapshot).await?;
    numbers::check(&shard.name, &mut snapshot, written, report).await?;
    copies::check(&shard.name, &mut snapshot, report).await?;
    let groupings = groupings(&mut snapshot).await?;
    let of = Of { shard, shards, types, groupings: &groupings, horizon: written.horizon };
    let mut reading = Reading::open(&mut snapshot).await?;
    let mut read =
        ShardReport { shard: shard.name.clone(), last_seq: written.last_seq, ..ShardReport::default() };
    let mut open: Option<(i64, Account<'_>)> = None;
    loop {
        if reading.refill(&mut snapshot).await? {
            let page = reading.events.page();
            contents::check(&shard.name, &mut snapshot, page, twice, report).await?;
            read.events += page.len() as i64;
            advanced(Advance {
                stage: &shard.name,
                done: read.events.min(written.events),
                all: written.events,
            });
        }
        let next = reading.next();
        if let Some((_, ended)) = open.take_if(|(id, _)| next != Some(*id)) {
            read.accounts += i64::from(ended.end(&shard.name, report));
        }
        let Some(id) = next else { break };
        let (_, account) = open.get_or_insert_with(|| (id, Account::new(&of, id, reading.named(id), report)));
        read.sums += reading.give(id, account);
    }
    advanced(Advance { stage: &shard.name, done: written.events, all: written.events });
    report.shards.push(read);
    Ok(())
}

/// The rows of all accounts, in the order of their ids.
struct Reading {
    events: Ordered<EventRow>,
    sums: Ordered<SumRow>,
    closing: Ordered<SumRow>,
}

impl Reading {
    async fn open(snapshot: &mut Snapshot) -> Result<Self> {
        Ok(Self {
            events: Ordered::open(snapshot, rows::EVENTS).await?,
            sums: Ordered::open(snapshot, rows::SUMS).await?,
            closing: Ordered::open(snapshot, rows::CLOSING).await?,
        })
    }

    /// Whether there are new events.
    async fn refill(&mut self, snapshot: &mut Snapshot) -> Result<bool> {
        self.sums.refill(snapshot).await?;
        self.closing.refill(snapshot).await?;
        self.events.refill(snapshot).await
    }

    /// The next account.
    fn next(&self) -> Option<i64> {
        let heads = [id(self.events.head()), id(self.sums.head()), id(self.closing.head())];
        heads.into_iter().flatten().min()
    }

    /// The account's type and key attributes.
    fn named(&self, account: i64) -> Option<(&str, &str)> {
        let of = |(id, named)| if id == account { named } else { None };
        let event = self.events.head().map(OfAccount::account).and_then(of);
        let sum = self.sums.head().map(OfAccount::account).and_then(of);
        event.or(sum).or_else(|| self.closing.head().map(OfAccount::account).and_then(of))
    }

    /// Gives the account what is its own of these pages; how many sums.
    fn give(&mut self, account: i64, to: &mut Account<'_>) -> i64 {
        while let Some(event) = self.events.page().pop_front_if(|row| row.account().0 == account) {
            to.event(&event);
        }
        let mut sums = 0;
        while let Some(sum) = self.sums.page().pop_front_if(|row| row.account().0 == account) {
            to.sum(&sum);
            sums += 1;
        }
        while let Some(closing) = self.closing.page().pop_front_if(|row| row.account().0 == account) {
            to.closing(&closing);
        }
        sums
    }
}

fn id<T: OfAccount>(row: Option<&T>) -> Option<i64> {
    row.map(|row| row.account().0)
}

/// All groupings that sums are kept for.
async fn groupings(snapshot: &mut Snapshot) -> Result<Vec<Grouping>> {
    let rows: Vec<(i32, String, String, String, i64)> =
        sqlx::query_as(GROUPINGS).fetch_all(snapshot.connection()).await?;
    let grouping =
        |(id, type_name, attributes, interval, aggregated_seq): (i32, String, String, String, i64)| {
            let attributes =
                attributes.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect();
            let interval = Interval::from_name(&interval)?;
            Some(Grouping { id, type_name, attributes, interval, aggregated_seq })
        };
    Ok(rows.into_iter().filter_map(grouping).collect())
}

const GROUPINGS: &str = "-- check_groupings
SELECT grouping_id, type, attributes, interval, aggregated_seq FROM groupings";
