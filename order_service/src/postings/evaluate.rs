//! From rules and an order to events: pure.

use ledger::events::NewEvent;

use super::{Field, Rule, Source};
use crate::orders::Stored;

/// The events that `rules` make of an order (its id and its product). An event's id names order, rule and place: an
/// order posts each once.
pub fn events(rules: &[Rule], order: (i32, i32), stored: Stored) -> Vec<NewEvent> {
    let of_rule = |rule: &Rule| {
        let event = |(n, event): (usize, &super::RuleEvent)| NewEvent {
            type_name: event.event_type.clone(),
            event_id: event_id(order.0, rule, n),
            dt: stored.basis.at,
            attributes: event
                .attributes
                .iter()
                .map(|(name, source)| (name.clone(), value(source, order, stored)))
                .collect(),
            debit: event.debit.clone(),
            credit: event.credit.clone(),
        };
        rule.events.iter().enumerate().map(event).collect::<Vec<_>>()
    };
    rules.iter().flat_map(of_rule).collect()
}

/// The id of an order's event at this place of the rule.
pub(super) fn event_id(order_id: i32, rule: &Rule, place: usize) -> String {
    format!("order/{order_id}/{}/{place}", rule.name)
}

fn value(source: &Source, (order_id, product_id): (i32, i32), stored: Stored) -> String {
    match source {
        Source::From(Field::OrderId) => order_id.to_string(),
        Source::From(Field::ProductId) => product_id.to_string(),
        Source::From(Field::StorageId) => stored.data.storage_id.to_string(),
        Source::From(Field::PickupPointId) => stored.data.pickup_point_id.to_string(),
        Source::Value(literal) => literal.to_string(),
    }
}
