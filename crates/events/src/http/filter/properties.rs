//! Property tests of filters with arbitrary input.

use proptest::collection::vec;
use proptest::prelude::*;

use super::{EventFilterCondition, EventFilterOperand, EventQuery, parse_query};

/// Filter names: valid, nearly valid and arbitrary.
fn names() -> impl Strategy<Value = String> {
    let fragment = prop_oneof![
        Just("params__".to_owned()),
        Just("__".to_owned()),
        Just("_id".to_owned()),
        Just("name".to_owned()),
        Just("time_created".to_owned()),
        Just("__in".to_owned()),
        Just("__gt".to_owned()),
        Just("') or 1=1--".to_owned()),
        Just("\"}'::jsonb $1 ?".to_owned()),
        Just("limit".to_owned()),
        "\\PC{0,6}",
        any::<String>(),
    ];
    vec(fragment, 0..6).prop_map(|fragments| fragments.concat())
}

/// The same query with all values replaced by constants.
fn blank(asked: &EventQuery) -> EventQuery {
    let text = |_: &String| "x".to_owned();
    let blank = |condition: &EventFilterCondition| {
        let mut condition = condition.clone();
        if let super::EventFilterSubject::Param(path) = &mut condition.subject {
            *path = path.iter().map(text).collect();
        }
        if let EventFilterOperand::Texts(texts) = &mut condition.operand {
            *texts = texts.iter().map(text).collect();
        }
        condition
    };
    EventQuery {
        conditions: asked.conditions.iter().map(blank).collect(),
        limit: 1,
        offset: 0,
        ..asked.clone()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn what_is_sent_never_becomes_part_of_the_statement(
        given in vec((names(), prop_oneof![names(), "[0-9]{1,18}", any::<String>()]), 0..5),
    ) {
        // A rejected query passes too.
        if let Ok(asked) = parse_query(given) {
            let plain = blank(&asked);
            prop_assert_eq!(asked.select_query().into_string(), plain.select_query().into_string());
            prop_assert_eq!(asked.count_query().into_string(), plain.count_query().into_string());
        }
    }

    #[test]
    fn a_path_of_names_is_read_as_it_is_written(path in vec("[a-z'\"; -]{1,5}", 1..8), value in "\\PC{0,9}") {
        let name = format!("params__{}", path.join("__"));
        let last = path.last().map(String::as_str);
        prop_assume!(!matches!(last, Some("in" | "gt" | "lt")));
        let asked = parse_query(vec![(name, value.clone())]).map_err(|error| TestCaseError::fail(format!("{error:?}")))?;
        prop_assert_eq!(&asked.conditions[0].subject, &super::EventFilterSubject::Param(path));
        prop_assert_eq!(&asked.conditions[0].operand, &EventFilterOperand::Texts(vec![value]));
    }
}
