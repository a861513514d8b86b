//! Evaluation of posting rules: from an order to its ledger events; pure functions.

use ledger::events::NewLedgerEvent;

use super::{OrderField, PostingRule, PostingValueSource};
use crate::orders::db::StoredOrderData;
use crate::orders::{NewOrder, OrderId};

/// The ledger events of an order. The event id is the idempotency key: it names order, rule and
/// index, so that an order posts each event once.
pub fn build_posting_events(
    rules: &[PostingRule],
    order: NewOrder,
    stored: StoredOrderData,
) -> Vec<NewLedgerEvent> {
    let mut new_events = Vec::new();
    for rule in rules {
        for (index, event) in rule.events.iter().enumerate() {
            let attributes = event
                .attributes
                .iter()
                .map(|(name, source)| (name.clone(), attribute_value(source, order, stored)));
            new_events.push(NewLedgerEvent {
                type_name: event.event_type.clone(),
                event_id: posting_event_id(order.order_id, rule, index),
                dt: stored.posting_context.stored_at,
                attributes: attributes.collect(),
                debit: event.debit.clone(),
                credit: event.credit.clone(),
            });
        }
    }
    new_events
}

/// Event id of the event at `index` of the rule.
pub(super) fn posting_event_id(order_id: OrderId, rule: &PostingRule, index: usize) -> String {
    format!("order/{order_id}/{}/{index}", rule.name)
}

fn attribute_value(
    source: &PostingValueSource,
    order: NewOrder,
    stored: StoredOrderData,
) -> String {
    match source {
        PostingValueSource::From(OrderField::OrderId) => order.order_id.to_string(),
        PostingValueSource::From(OrderField::ProductId) => order.product_id.to_string(),
        PostingValueSource::From(OrderField::StorageId) => stored.data.storage_id.to_string(),
        PostingValueSource::From(OrderField::PickupPointId) => {
            stored.data.pickup_point_id.to_string()
        }
        PostingValueSource::Value(literal) => literal.to_string(),
    }
}
