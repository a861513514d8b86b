//! Comparison of orders with their postings, and repair, after one of the databases was restored
//! from an older backup. The ledger is authoritative.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use audit::AuditActor;
use ledger::events::{
    LedgerEvent, LedgerEventMatch, StoredLedgerEvent, find_stored_events, match_stored_events,
};
use ledger::sharding::LedgerShards;
use ledger::types::LedgerTypeRegistry;
use sqlx::PgPool;
use store::Error;

use super::evaluate::posting_event_id;
use super::{
    OrderField, PostingRule, PostingValueSource, build_posting_events, load_rules_version,
};
use crate::orders::db::{
    self, Order, OrderData, OrderListQuery, OrderState, PostingContext, StoredOrderData,
};
use crate::orders::{NewOrder, OrderId};

/// Orders per page of the comparison.
const MAX_ORDERS_PER_PAGE: i64 = 1000;

/// How an order differs from its postings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PostingDifference {
    /// Finished, but events are missing in the ledger. Repair: repeat its last stage.
    NotPosted,
    /// Failed, but events are in the ledger. Repair: revive it.
    FailedThoughPosted,
    /// Posted with this other data. Repair: store that data in the order.
    PostedWithOtherData(StoredOrderData),
    /// The ledger has events under its event ids that no data of the order
    /// explains. Needs an operator.
    Unexplained,
}

/// An order that differs from its postings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DifferingOrder {
    /// Order id; any int32.
    pub order_id: OrderId,
    /// Stored state of the order.
    pub state: OrderState,
    /// Kind of the difference.
    pub difference: PostingDifference,
}

/// Result of comparing a page of orders.
#[derive(Debug, Clone, Default)]
pub struct PostingComparison {
    /// Number of orders with data that were compared.
    pub compared_count: usize,
    /// Differing orders, by ascending id.
    pub differing_orders: Vec<DifferingOrder>,
    /// Keyset cursor of the next page; `None` after the last one.
    pub next_after: Option<OrderId>,
}

/// Compares the page of orders with ids greater than `after`. Skips orders without stored data. A
/// posting at another time is no difference: the order's next attempt accepts it.
pub async fn compare_order_postings(
    pool: &PgPool,
    shards: &LedgerShards,
    types: &LedgerTypeRegistry,
    after: Option<OrderId>,
) -> Result<PostingComparison, Error> {
    let orders =
        db::list_orders(pool, OrderListQuery { state: None, after, limit: MAX_ORDERS_PER_PAGE })
            .await?;
    let next_after = orders
        .last()
        .map(|order| order.order_id)
        .filter(|_| orders.len() as i64 == MAX_ORDERS_PER_PAGE);
    let rules = load_rules_of_orders(pool, &orders).await?;
    let (expected_postings, mut differing_orders) = expect_postings(orders, &rules, types);
    let compared_count = expected_postings.len() + differing_orders.len();
    let all_events: Vec<LedgerEvent> =
        expected_postings.iter().flat_map(|(_, events)| events.clone()).collect();
    let mut matches = match_stored_events(shards, &all_events).await?.into_iter();
    let mut mismatched_orders = Vec::new();
    for (order, events) in expected_postings {
        let order_matches: Vec<LedgerEventMatch> = matches.by_ref().take(events.len()).collect();
        if order_matches.contains(&LedgerEventMatch::Other) {
            mismatched_orders.push(order);
        } else if let Some(difference) = find_posting_difference(order.state, &order_matches) {
            differing_orders.push(DifferingOrder::from_order(&order, difference));
        }
    }
    differing_orders.extend(explain_mismatched_orders(shards, &rules, mismatched_orders).await?);
    differing_orders.sort_unstable_by_key(|found| found.order_id);
    Ok(PostingComparison { compared_count, differing_orders, next_after })
}

/// The posting rules of these orders, by version.
async fn load_rules_of_orders(
    pool: &PgPool,
    orders: &[Order],
) -> Result<HashMap<i32, Vec<PostingRule>>, Error> {
    let mut rules = HashMap::new();
    for order in orders {
        let (Some(_), Some(posting_context)) = (order.data, order.posting_context) else {
            continue;
        };
        if posting_context.rules_version != 0
            && let Entry::Vacant(entry) = rules.entry(posting_context.rules_version)
        {
            entry.insert(load_rules_version(pool, posting_context.rules_version).await?);
        }
    }
    Ok(rules)
}

/// The events that the ledger should have of each order, and the orders whose events it would
/// refuse. Skips orders that post nothing.
fn expect_postings(
    orders: Vec<Order>,
    rules: &HashMap<i32, Vec<PostingRule>>,
    types: &LedgerTypeRegistry,
) -> (Vec<(Order, Vec<LedgerEvent>)>, Vec<DifferingOrder>) {
    let (mut expected_postings, mut differing_orders) = (Vec::new(), Vec::new());
    for order in orders {
        let (Some(data), Some(posting_context)) = (order.data, order.posting_context) else {
            continue;
        };
        let Some(rules) = rules.get(&posting_context.rules_version) else { continue };
        let new_events = build_posting_events(
            rules,
            NewOrder { order_id: order.order_id, product_id: order.product_id },
            StoredOrderData { data, posting_context },
        );
        let catalogue = types.current();
        let checked_events: Result<Vec<LedgerEvent>, _> =
            new_events.iter().map(|event| event.to_checked_event(&catalogue)).collect();
        match checked_events {
            Ok(events) => expected_postings.push((order, events)),
            Err(_) => differing_orders
                .push(DifferingOrder::from_order(&order, PostingDifference::Unexplained)),
        }
    }
    (expected_postings, differing_orders)
}

impl DifferingOrder {
    fn from_order(order: &Order, difference: PostingDifference) -> Self {
        Self { order_id: order.order_id, state: order.state, difference }
    }
}

/// The difference for an order in `state`, if no event has other content.
fn find_posting_difference(
    state: OrderState,
    matches: &[LedgerEventMatch],
) -> Option<PostingDifference> {
    let missing = matches.contains(&LedgerEventMatch::Missing);
    let posted = matches.iter().any(|posting| *posting != LedgerEventMatch::Missing);
    match state {
        OrderState::ProcessFinished if missing => Some(PostingDifference::NotPosted),
        OrderState::Failed if posted => Some(PostingDifference::FailedThoughPosted),
        _ => None,
    }
}

/// Finds the data with which the ledger has these orders.
async fn explain_mismatched_orders(
    shards: &LedgerShards,
    rules: &HashMap<i32, Vec<PostingRule>>,
    orders: Vec<Order>,
) -> Result<Vec<DifferingOrder>, Error> {
    if orders.is_empty() {
        return Ok(Vec::new());
    }
    let mut event_ids = Vec::new();
    for order in &orders {
        for rule in rules_of_order(rules, order) {
            for index in 0..rule.events.len() {
                event_ids.push(posting_event_id(order.order_id, rule, index));
            }
        }
    }
    let posted = find_stored_events(shards, event_ids).await?;
    let mut explained_orders = Vec::new();
    for order in &orders {
        let rules_version =
            order.posting_context.map_or(0, |posting_context| posting_context.rules_version);
        let difference =
            match find_posted_data(order.order_id, rules_of_order(rules, order), &posted) {
                None => PostingDifference::Unexplained,
                Some((data, stored_at)) => {
                    PostingDifference::PostedWithOtherData(StoredOrderData {
                        data,
                        posting_context: PostingContext { stored_at, rules_version },
                    })
                }
            };
        explained_orders.push(DifferingOrder::from_order(order, difference));
    }
    Ok(explained_orders)
}

/// The rules that post the order; none before its data is stored.
fn rules_of_order<'r>(
    rules: &'r HashMap<i32, Vec<PostingRule>>,
    order: &Order,
) -> &'r [PostingRule] {
    let version = order.posting_context.map(|posting_context| posting_context.rules_version);
    version.and_then(|version| rules.get(&version)).map(Vec::as_slice).unwrap_or_default()
}

/// The data and time in the posted events of an order, if they agree.
fn find_posted_data(
    order_id: OrderId,
    rules: &[PostingRule],
    posted: &[StoredLedgerEvent],
) -> Option<(OrderData, chrono::DateTime<chrono::Utc>)> {
    let (mut storage, mut pickup, mut times) = (Vec::new(), Vec::new(), Vec::new());
    for rule in rules {
        for (index, event) in rule.events.iter().enumerate() {
            let id = posting_event_id(order_id, rule, index);
            let Some(posted_event) = posted
                .iter()
                .find(|there| there.event_id == id && there.type_name == event.event_type)
            else {
                continue;
            };
            times.push(posted_event.dt);
            for (name, source) in &event.attributes {
                let value =
                    posted_event.attributes.get(name).and_then(|value| value.parse::<i64>().ok());
                match source {
                    PostingValueSource::From(OrderField::StorageId) => storage.push(value),
                    PostingValueSource::From(OrderField::PickupPointId) => pickup.push(value),
                    _ => {}
                }
            }
        }
    }
    let storage_id = i32::try_from(single_value(&storage)??).ok()?;
    let pickup_point_id = i32::try_from(single_value(&pickup)??).ok()?;
    let data = OrderData::from_ids(storage_id.into(), pickup_point_id.into())?;
    Some((data, single_value(&times)?))
}

/// The common value, if all are equal.
fn single_value<T: Copy + PartialEq>(values: &[T]) -> Option<T> {
    let (first, rest) = values.split_first()?;
    rest.iter().all(|value| value == first).then_some(*first)
}

/// Repairs an order; false if it needs an operator. Safe to repeat.
pub async fn repair_order(
    pool: &PgPool,
    differing_order: DifferingOrder,
    actor: &AuditActor,
) -> Result<bool, Error> {
    let order_id = differing_order.order_id;
    match differing_order.difference {
        PostingDifference::NotPosted => db::repost_order(pool, order_id, actor).await?,
        PostingDifference::FailedThoughPosted => db::revive_order(pool, order_id, actor).await?,
        PostingDifference::PostedWithOtherData(stored) => {
            db::apply_ledger_data(pool, order_id, stored, actor).await?
        }
        PostingDifference::Unexplained => return Ok(false),
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_what_is_finished_and_missing_or_failed_and_there() {
        use LedgerEventMatch::{AtAnotherTime, Missing, Same};
        let at = AtAnotherTime(chrono::DateTime::UNIX_EPOCH);
        let cases = [
            (OrderState::ProcessFinished, vec![Same, at], None),
            (OrderState::ProcessFinished, vec![Same, Missing], Some(PostingDifference::NotPosted)),
            (OrderState::Failed, vec![Missing, Missing], None),
            (OrderState::Failed, vec![Missing, at], Some(PostingDifference::FailedThoughPosted)),
            (OrderState::FinishedExternalInteraction, vec![Same, Missing], None),
        ];
        for (state, there, expected) in cases {
            assert_eq!(find_posting_difference(state, &there), expected, "{state:?} {there:?}");
        }
    }
}
