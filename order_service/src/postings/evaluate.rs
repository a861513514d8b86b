//! From rules and an order to events: pure.

use ledger::events::NewEvent;

use super::{Field, Rule, Source};
use crate::orders::{Stored, Work};

/// The events that `rules` make of an order. An event's id names order, rule and place: an order posts each once.
pub fn events(rules: &[Rule], order: &Work, stored: Stored) -> Vec<NewEvent> {
    let of_rule = |rule: &Rule| {
        let event = |(n, event): (usize, &super::RuleEvent)| NewEvent {
            type_name: event.event_type.clone(),
            event_id: format!("order/{}/{}/{n}", order.order_id, rule.name),
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

fn value(source: &Source, order: &Work, stored: Stored) -> String {
    match source {
        Source::From(Field::OrderId) => order.order_id.to_string(),
        Source::From(Field::ProductId) => order.product_id.to_string(),
        Source::From(Field::StorageId) => stored.data.storage_id.to_string(),
        Source::From(Field::PickupPointId) => stored.data.pickup_point_id.to_string(),
        Source::Value(literal) => literal.to_string(),
    }
}
