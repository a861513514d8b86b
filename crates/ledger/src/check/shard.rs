//! Check of one shard in one snapshot.

use store::Result;

use super::account::{LedgerCheckAccount, LedgerCheckContext};
use super::contents::EventContentCheck;
use super::duplicates::DuplicateEventKeys;
use super::report::{LedgerCheckReport, ShardCheckReport};
use super::rows::{self, AccountRow, LedgerCheckEventRow, LedgerCheckSumRow};
use super::snapshot::{ShardSnapshot, SnapshotCursorRows};
use super::types::LedgerTypeSource;
use super::{LedgerCheckProgress, copies, numbers};
use crate::aggregates::{Grouping, GroupingRow};
use crate::ids::AccountId;
use crate::sharding::{LedgerShards, Shard};

pub(super) async fn check_shard(
    shard: &Shard,
    shards: &LedgerShards,
    types: LedgerTypeSource<'_>,
    duplicates: &mut DuplicateEventKeys,
    report: &mut LedgerCheckReport,
    on_progress: &mut impl FnMut(LedgerCheckProgress<'_>),
) -> Result<()> {
    let mut snapshot = ShardSnapshot::take(&shard.pool).await?;
    let types = types.load_catalogue().await?;
    let counts = numbers::read_event_counts(&mut snapshot).await?;
    numbers::check_numbers(&shard.name, &mut snapshot, counts, report).await?;
    copies::check_copies(&shard.name, &mut snapshot, report).await?;
    let groupings = read_groupings(&mut snapshot).await?;
    let context = LedgerCheckContext {
        shard,
        shards,
        types: &types,
        groupings: &groupings,
        horizon: counts.horizon,
    };
    let mut contents = EventContentCheck::new(&context, duplicates);
    let mut shard_report =
        check_rows(&context, &mut snapshot, &mut contents, report, |done_events| {
            on_progress(LedgerCheckProgress {
                stage: &shard.name,
                done_events: done_events.min(counts.events),
                total_events: counts.events,
            });
        })
        .await?;
    contents.report_missing_types(report);
    on_progress(LedgerCheckProgress {
        stage: &shard.name,
        done_events: counts.events,
        total_events: counts.events,
    });
    shard_report.last_seq = counts.last_seq;
    report.shards.push(shard_report);
    Ok(())
}

/// Checks events and sums, account by account; reports the number of events read to `on_page`.
async fn check_rows(
    context: &LedgerCheckContext<'_>,
    snapshot: &mut ShardSnapshot,
    contents: &mut EventContentCheck<'_>,
    report: &mut LedgerCheckReport,
    mut on_page: impl FnMut(i64),
) -> Result<ShardCheckReport> {
    let shard = &context.shard.name;
    let mut rows = LedgerCheckRows::open(snapshot).await?;
    let mut shard_report = ShardCheckReport { shard: shard.clone(), ..ShardCheckReport::default() };
    let mut current_account: Option<(AccountId, LedgerCheckAccount<'_>)> = None;
    loop {
        if rows.refill(snapshot).await? {
            let page = rows.events.page();
            contents.check_page(snapshot, page, report).await?;
            shard_report.events += page.len() as i64;
            on_page(shard_report.events);
        }
        let next_id = rows.next();
        if let Some((_, finished_account)) = current_account.take_if(|(id, _)| next_id != Some(*id))
        {
            shard_report.accounts += i64::from(finished_account.report_differences(shard, report));
        }
        let Some(id) = next_id else { return Ok(shard_report) };
        let (_, account) = current_account.get_or_insert_with(|| {
            (id, LedgerCheckAccount::new(context, id, rows.find_account_name(id), report))
        });
        shard_report.sums += rows.pass_rows_to(id, account);
    }
}

/// Merge of three cursors, ordered by account id.
struct LedgerCheckRows {
    events: SnapshotCursorRows<LedgerCheckEventRow>,
    sums: SnapshotCursorRows<LedgerCheckSumRow>,
    closing_sums: SnapshotCursorRows<LedgerCheckSumRow>,
}

impl LedgerCheckRows {
    async fn open(snapshot: &mut ShardSnapshot) -> Result<Self> {
        Ok(Self {
            events: SnapshotCursorRows::open(snapshot, rows::EVENTS_CURSOR).await?,
            sums: SnapshotCursorRows::open(snapshot, rows::AGGREGATES_CURSOR).await?,
            closing_sums: SnapshotCursorRows::open(snapshot, rows::CLOSING_BALANCES_CURSOR).await?,
        })
    }

    /// Fetches pages that are empty; returns whether there are new events.
    async fn refill(&mut self, snapshot: &mut ShardSnapshot) -> Result<bool> {
        self.sums.fetch_page(snapshot).await?;
        self.closing_sums.fetch_page(snapshot).await?;
        self.events.fetch_page(snapshot).await
    }

    /// Lowest account id of the current pages.
    fn next(&self) -> Option<AccountId> {
        let heads = [
            account_id(self.events.first_row()),
            account_id(self.sums.first_row()),
            account_id(self.closing_sums.first_row()),
        ];
        heads.into_iter().flatten().min()
    }

    /// Type and key attributes of the account.
    fn find_account_name(&self, account: AccountId) -> Option<(&str, &str)> {
        let heads = [
            self.events.first_row().map(AccountRow::account),
            self.sums.first_row().map(AccountRow::account),
            self.closing_sums.first_row().map(AccountRow::account),
        ];
        heads.into_iter().flatten().find_map(|(id, name)| name.filter(|_| id == account))
    }

    /// Moves the account's rows of the current pages to `target`; returns the number of aggregates.
    fn pass_rows_to(&mut self, account: AccountId, target: &mut LedgerCheckAccount<'_>) -> i64 {
        while let Some(event) = self.events.page().pop_front_if(|row| row.account().0 == account) {
            target.add_event(&event);
        }
        let mut sums = 0;
        while let Some(sum) = self.sums.page().pop_front_if(|row| row.account().0 == account) {
            target.add_sum_row(&sum);
            sums += 1;
        }
        while let Some(closing) =
            self.closing_sums.page().pop_front_if(|row| row.account().0 == account)
        {
            target.add_closing_row(&closing);
        }
        sums
    }
}

fn account_id<T: AccountRow>(row: Option<&T>) -> Option<AccountId> {
    row.map(|row| row.account().0)
}

/// All rows of `groupings` with a known interval.
async fn read_groupings(snapshot: &mut ShardSnapshot) -> Result<Vec<Grouping>> {
    let rows: Vec<GroupingRow> = store::statement("check_groupings", READ_GROUPINGS_SQL)
        .fetch_all(snapshot.connection())
        .await?;
    Ok(rows.into_iter().filter_map(Grouping::from_row).collect())
}

const READ_GROUPINGS_SQL: &str =
    "SELECT grouping_id, type, attributes, interval, aggregated_seq FROM groupings";
