//! Orders beside their postings, after one of the databases was put back to an older copy: what differs, and what puts it
//! right. The ledger is believed: what is posted was posted.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use ledger::events::{Event, PostedEvent, Posting, find_posted, postings};
use ledger::sharding::Shards;
use ledger::types::Types;
use sqlx::PgPool;
use store::Error;

use super::evaluate::event_id;
use super::{Field, Rule, Source, events, load_version};
use crate::orders::{self, Basis, Data, Listing, Order, State, Stored};

/// Orders compared at a time.
const PAGE: i64 = 1000;

/// What is wrong with an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Difference {
    /// It is finished, and something of it is not in the ledger. Put right: its last stage is passed again.
    NotPosted,
    /// It failed, and something of it is in the ledger. Put right: it is tried again.
    FailedThoughPosted,
    /// The ledger has it with this data. Put right: the order gets it.
    PostedOtherwise(Stored),
    /// The ledger has other events under its ids, which no data of the order explains. A person has to look into it.
    Unexplained,
}

/// An order that differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// Which.
    pub order_id: i32,
    /// How far it has come.
    pub state: State,
    /// What is wrong.
    pub difference: Difference,
}

/// What a page of orders came to.
#[derive(Debug, Clone, Default)]
pub struct Comparison {
    /// Orders with data that were compared.
    pub compared: usize,
    /// Those that differ.
    pub found: Vec<Found>,
    /// The order after which the next page begins; `None` after the last one.
    pub next: Option<i32>,
}

/// Compares the next page of orders with a greater id than `after`. An order whose data is not stored has no postings to compare
/// with; a posting that is there at another time is no difference, as the order's next attempt takes it for its own.
pub async fn compare(
    pool: &PgPool,
    shards: &Shards,
    types: &Types,
    after: Option<i32>,
) -> Result<Comparison, Error> {
    let orders = orders::list(pool, Listing { state: None, after, limit: PAGE }).await?;
    let next = orders.last().map(|order| order.order_id).filter(|_| orders.len() as i64 == PAGE);
    let mut rules: HashMap<i32, Vec<Rule>> = HashMap::new();
    let (mut owed, mut found): (Vec<(Order, Vec<Event>)>, Vec<Found>) = (Vec::new(), Vec::new());
    for order in orders {
        let (Some(data), Some(basis)) = (order.data, order.basis) else { continue };
        if basis.rules == 0 {
            continue;
        }
        let version = match rules.entry(basis.rules) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => new.insert(load_version(pool, basis.rules).await?),
        };
        let new = events(version, (order.order_id, order.product_id), Stored { data, basis });
        let catalogue = types.now();
        match new.iter().map(|event| event.check(&catalogue)).collect::<Result<Vec<_>, _>>() {
            Ok(checked) => owed.push((order, checked)),
            Err(_) => found.push(Found::of(&order, Difference::Unexplained)),
        }
    }
    let compared = owed.len() + found.len();
    let all: Vec<Event> = owed.iter().flat_map(|(_, events)| events.clone()).collect();
    let mut there = postings(shards, &all).await?.into_iter();
    let mut otherwise = Vec::new();
    for (order, events) in owed {
        let there: Vec<Posting> = there.by_ref().take(events.len()).collect();
        if there.contains(&Posting::Other) {
            otherwise.push(order);
        } else if let Some(difference) = difference(order.state, &there) {
            found.push(Found::of(&order, difference));
        }
    }
    found.extend(explain(shards, &rules, otherwise).await?);
    found.sort_unstable_by_key(|found| found.order_id);
    Ok(Comparison { compared, found, next })
}

impl Found {
    fn of(order: &Order, difference: Difference) -> Self {
        Self { order_id: order.order_id, state: order.state, difference }
    }
}

/// What is wrong with an order in this state of whose events these are there; none of them another event.
fn difference(state: State, there: &[Posting]) -> Option<Difference> {
    let missing = there.contains(&Posting::Missing);
    let posted = there.iter().any(|posting| *posting != Posting::Missing);
    match state {
        State::ProcessFinished if missing => Some(Difference::NotPosted),
        State::Failed if posted => Some(Difference::FailedThoughPosted),
        _ => None,
    }
}

/// Looks for the data with which the ledger has these orders.
async fn explain(
    shards: &Shards,
    rules: &HashMap<i32, Vec<Rule>>,
    orders: Vec<Order>,
) -> Result<Vec<Found>, Error> {
    if orders.is_empty() {
        return Ok(Vec::new());
    }
    let rules_of = |order: &Order| order.basis.and_then(|basis| rules.get(&basis.rules));
    let ids = orders.iter().flat_map(|order| {
        let places = |rule: &Rule| {
            (0..rule.events.len()).map(|n| event_id(order.order_id, rule, n)).collect::<Vec<_>>()
        };
        rules_of(order).into_iter().flatten().flat_map(places).collect::<Vec<_>>()
    });
    let posted = find_posted(shards, ids.collect()).await?;
    let explained = orders.iter().map(|order| {
        let version = order.basis.map_or(0, |basis| basis.rules);
        let data = rules_of(order).and_then(|rules| data_of(order.order_id, rules, &posted));
        let difference = data.map_or(Difference::Unexplained, |(data, at)| {
            Difference::PostedOtherwise(Stored { data, basis: Basis { at, rules: version } })
        });
        Found::of(order, difference)
    });
    Ok(explained.collect())
}

/// The data and the time of which the ledger's events of an order speak, if they agree.
fn data_of(
    order_id: i32,
    rules: &[Rule],
    posted: &[PostedEvent],
) -> Option<(Data, chrono::DateTime<chrono::Utc>)> {
    let (mut storage, mut pickup, mut times) = (Vec::new(), Vec::new(), Vec::new());
    for rule in rules {
        for (n, event) in rule.events.iter().enumerate() {
            let id = event_id(order_id, rule, n);
            let Some(there) =
                posted.iter().find(|there| there.event_id == id && there.type_name == event.event_type)
            else {
                continue;
            };
            times.push(there.dt);
            for (name, source) in &event.attributes {
                let value = there.attributes.get(name).and_then(|value| value.parse::<i64>().ok());
                match source {
                    Source::From(Field::StorageId) => storage.push(value),
                    Source::From(Field::PickupPointId) => pickup.push(value),
                    _ => {}
                }
            }
        }
    }
    let data = Data::given(only(&storage)??.try_into().ok()?, only(&pickup)??.try_into().ok()?)?;
    Some((data, only(&times)?))
}

/// The value that all of them are.
fn only<T: Copy + PartialEq>(values: &[T]) -> Option<T> {
    let (first, rest) = values.split_first()?;
    rest.iter().all(|value| value == first).then_some(*first)
}

/// Puts right what can be; false if a person has to. Safe to repeat.
pub async fn put_right(pool: &PgPool, found: Found) -> Result<bool, Error> {
    match found.difference {
        Difference::NotPosted => orders::post_again(pool, found.order_id).await?,
        Difference::FailedThoughPosted => orders::revive(pool, found.order_id).await?,
        Difference::PostedOtherwise(stored) => orders::believe(pool, found.order_id, stored).await?,
        Difference::Unexplained => return Ok(false),
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_what_is_finished_and_missing_or_failed_and_there() {
        use Posting::{AtAnotherTime, Missing, Same};
        let at = AtAnotherTime(chrono::DateTime::UNIX_EPOCH);
        let cases = [
            (State::ProcessFinished, vec![Same, at], None),
            (State::ProcessFinished, vec![Same, Missing], Some(Difference::NotPosted)),
            (State::Failed, vec![Missing, Missing], None),
            (State::Failed, vec![Missing, at], Some(Difference::FailedThoughPosted)),
            (State::FinishedExternalInteraction, vec![Same, Missing], None),
        ];
        for (state, there, expected) in cases {
            assert_eq!(difference(state, &there), expected, "{state:?} {there:?}");
        }
    }
}
