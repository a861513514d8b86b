//! One account: where it lies, and what its sums must be.

use super::report::{Kind, Report};
use super::rows::{EventRow, SumRow};
use crate::aggregates::{Grouping, Kept, Level, Recount};
use crate::events::account;
use crate::sharding::{Shard, ShardHash, Shards, canonical, parse_canonical};
use crate::types::Catalogue;

/// An account that is being read.
pub(super) struct Account<'g> {
    /// Type and key attributes.
    name: String,
    recount: Recount<'g>,
    kept: Vec<Kept>,
    wrong: Vec<String>,
    has_events: bool,
}

/// What all accounts of a shard have in common.
pub(super) struct Of<'g> {
    pub(super) shard: &'g Shard,
    pub(super) shards: &'g Shards,
    pub(super) types: &'g Catalogue,
    pub(super) groupings: &'g [Grouping],
    pub(super) horizon: Option<chrono::DateTime<chrono::Utc>>,
}

impl<'g> Account<'g> {
    pub(super) fn new(of: &Of<'g>, id: i64, named: Option<(&str, &str)>, report: &mut Report) -> Self {
        let (type_name, attributes) = named.unwrap_or_default();
        let name = match attributes {
            "" => format!("{type_name} (account {id})"),
            attributes => format!("{type_name} {attributes}"),
        };
        if let Some(what) = named.and_then(|(type_name, attributes)| misplaced(of, id, type_name, attributes))
        {
            report.add(Some(&of.shard.name), Kind::Placement, format!("{name}: {what}"));
        }
        let recount = Recount::of(type_name, of.groupings, of.horizon);
        Self { name, recount, kept: Vec::new(), wrong: Vec::new(), has_events: false }
    }

    pub(super) fn event(&mut self, event: &EventRow) {
        self.has_events = true;
        // What has no amount or no number is reported where that is looked at.
        if let (Some(sum), Some(tuple), Some(seq)) = (event.sum(), &event.tuple, event.seq) {
            self.recount.event(tuple, event.dt, seq, sum);
        }
    }

    pub(super) fn closing(&mut self, row: &SumRow) {
        match (row.sum(), &row.tuple) {
            (Some(sum), Some(tuple)) => self.recount.closing(tuple, sum),
            _ => self.wrong.push(
                "a closing balance is no sum of amounts, or of attributes that are not there".to_owned(),
            ),
        }
    }

    pub(super) fn sum(&mut self, row: &SumRow) {
        let level = row.level.as_deref().and_then(Level::from_letter);
        match (row.sum(), row.grouping_id, level, row.period, &row.tuple) {
            (Some(sum), Some(grouping), Some(level), Some(period), Some(group)) => {
                self.kept.push(Kept { grouping, level, period, group: group.clone(), sum });
            }
            _ => self
                .wrong
                .push("a kept sum is no sum of amounts, or of attributes that are not there".to_owned()),
        }
    }

    /// Compares; whether there were events.
    pub(super) fn end(self, shard: &str, report: &mut Report) -> bool {
        let wrong = self.wrong.into_iter().chain(self.recount.differences(&self.kept));
        for what in wrong {
            report.add(Some(shard), Kind::Sums, format!("{}: {what}", self.name));
        }
        self.has_events
    }
}

/// What is wrong with an account's id or place.
fn misplaced(of: &Of<'_>, id: i64, type_name: &str, attributes: &str) -> Option<String> {
    if account(type_name, attributes.to_owned()).id != id {
        return Some(format!("its id {id} is another account's"));
    }
    // Of a type that is gone nobody knows the shard key.
    let kind = of.types.accounts.get(type_name)?;
    let mut key = parse_canonical(attributes);
    key.retain(|(name, _)| kind.shard_key.contains(name));
    let hash = ShardHash::of(&canonical(key.iter().map(|(name, value)| (name.as_str(), value.as_str()))));
    let owner = &of.shards.of(hash).name;
    (*owner != of.shard.name).then(|| format!("belongs to shard {owner}"))
}
