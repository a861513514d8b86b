//! Filters of an event listing: parsed into conditions, compiled to SQL.

#[cfg(test)]
mod properties;
mod sql;

use chrono::{DateTime, Datelike as _, Utc};
use serving::error::ApiError;

use super::shorten_name;
use crate::EventId;

pub(super) use sql::query_events;

/// Events per page: default and maximum.
const DEFAULT_EVENTS_PER_PAGE: i64 = 100;
const MAX_EVENTS_PER_PAGE: i64 = 1000;
/// Maximum filters per query, path depth and values per list.
const MAX_FILTERS_PER_QUERY: usize = 32;
const MAX_PARAM_PATH_DEPTH: usize = 32;
const MAX_VALUES_PER_FILTER: usize = 1000;

/// Comparison operator of a filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum EventFilterOperator {
    Equal,
    In,
    Greater,
    Less,
}

/// Left side of a comparison.
#[derive(Debug, Clone, PartialEq, Eq)]
enum EventFilterSubject {
    Id,
    Name,
    Author,
    TimeCreated,
    /// Path into the params.
    Param(Vec<String>),
}

/// Right side of a comparison.
#[derive(Debug, Clone, PartialEq)]
enum EventFilterOperand {
    Ids(Vec<EventId>),
    Texts(Vec<String>),
    Time(DateTime<Utc>),
}

#[derive(Debug, Clone, PartialEq)]
struct EventFilterCondition {
    subject: EventFilterSubject,
    operator: EventFilterOperator,
    operand: EventFilterOperand,
}

/// A parsed listing query.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct EventQuery {
    conditions: Vec<EventFilterCondition>,
    sort: &'static str,
    limit: i64,
    offset: i64,
    count: bool,
}

/// Parses a query; errors name the parameter.
pub(super) fn parse_query(pairs: Vec<(String, String)>) -> Result<EventQuery, ApiError> {
    let mut query = EventQuery {
        conditions: Vec::new(),
        sort: "event_id DESC",
        limit: DEFAULT_EVENTS_PER_PAGE,
        offset: 0,
        count: false,
    };
    for (name, value) in pairs {
        match name.as_str() {
            "limit" => query.limit = parse_number(&name, &value, MAX_EVENTS_PER_PAGE)?,
            "offset" if value.is_empty() => {}
            "offset" => query.offset = parse_number(&name, &value, i64::from(i32::MAX))?,
            "count" => {
                query.count = match value.as_str() {
                    "true" => true,
                    "false" => false,
                    _ => return Err(invalid_parameter(&name, "must be true or false")),
                };
            }
            "sort" => {
                query.sort = match value.as_str() {
                    // Tie-breaker: events of one transaction have the same time.
                    "_id" => "event_id",
                    "-_id" => "event_id DESC",
                    "time_created" => "time_created, event_id",
                    "-time_created" => "time_created DESC, event_id DESC",
                    _ => {
                        let allowed = "must be _id, -_id, time_created or -time_created";
                        return Err(invalid_parameter(&name, allowed));
                    }
                };
            }
            _ => query.conditions.push(parse_condition(&name, &value)?),
        }
    }
    if query.conditions.len() > MAX_FILTERS_PER_QUERY {
        return Err(ApiError::invalid_field(
            "filters",
            format!("there must be at most {MAX_FILTERS_PER_QUERY}"),
        ));
    }
    Ok(query)
}

fn invalid_parameter(name: &str, reason: impl Into<String>) -> ApiError {
    ApiError::invalid_field(shorten_name(name), reason)
}

/// A number from 0 to `max`.
fn parse_number(name: &str, value: &str, max: i64) -> Result<i64, ApiError> {
    match value.parse::<i64>() {
        Ok(number) if (0..=max).contains(&number) => Ok(number),
        _ => Err(invalid_parameter(name, format!("must be a whole number from 0 to {max}"))),
    }
}

fn parse_condition(name: &str, value: &str) -> Result<EventFilterCondition, ApiError> {
    if name.contains('\0') || value.contains('\0') {
        return Err(invalid_parameter(name, "must hold no NUL"));
    }
    let (path, operator) = split_operator(name);
    let subject = parse_subject(name, path)?;
    let texts: Vec<String> = match operator {
        EventFilterOperator::In => value.split(',').map(str::to_owned).collect(),
        EventFilterOperator::Equal | EventFilterOperator::Greater | EventFilterOperator::Less => {
            vec![value.to_owned()]
        }
    };
    if texts.len() > MAX_VALUES_PER_FILTER {
        let reason = format!("must list at most {MAX_VALUES_PER_FILTER} values");
        return Err(invalid_parameter(name, reason));
    }
    let operand = match subject {
        EventFilterSubject::Id => match parse_ids(&texts) {
            Some(ids) => EventFilterOperand::Ids(ids),
            None => return Err(invalid_parameter(name, "must be the _id of an event")),
        },
        EventFilterSubject::TimeCreated if operator == EventFilterOperator::In => {
            return Err(invalid_parameter(name, "a time is compared with __gt and __lt"));
        }
        EventFilterSubject::TimeCreated => match parse_time(value) {
            Some(time) => EventFilterOperand::Time(time),
            None => {
                let reason = "must be a time such as 2026-11-25T21:00:00Z";
                return Err(invalid_parameter(name, reason));
            }
        },
        EventFilterSubject::Name | EventFilterSubject::Author | EventFilterSubject::Param(_) => {
            EventFilterOperand::Texts(texts)
        }
    };
    Ok(EventFilterCondition { subject, operator, operand })
}

/// `path`: the name without its operator.
fn parse_subject(name: &str, path: &str) -> Result<EventFilterSubject, ApiError> {
    let subject = match path {
        "_id" => EventFilterSubject::Id,
        "name" => EventFilterSubject::Name,
        "author" => EventFilterSubject::Author,
        "time_created" => EventFilterSubject::TimeCreated,
        _ => match path.strip_prefix("params__").filter(|path| !path.is_empty()) {
            Some(path) => EventFilterSubject::Param(path.split("__").map(str::to_owned).collect()),
            None => {
                let allowed = "unknown parameter; allowed are _id, name, author, time_created, params__…, each also \
                               with __in, __gt, __lt, and sort, limit, offset, count";
                return Err(invalid_parameter(name, allowed));
            }
        },
    };
    if matches!(&subject, EventFilterSubject::Param(path) if path.len() > MAX_PARAM_PATH_DEPTH) {
        let reason = format!("must be at most {MAX_PARAM_PATH_DEPTH} levels deep");
        return Err(invalid_parameter(name, reason));
    }
    Ok(subject)
}

fn parse_ids(texts: &[String]) -> Option<Vec<EventId>> {
    texts.iter().map(|text| EventId::parse(text)).collect()
}

fn parse_time(text: &str) -> Option<DateTime<Utc>> {
    // A `+` that the client did not percent-encode arrives as a space.
    let time = DateTime::parse_from_rfc3339(&text.replace(' ', "+")).ok()?.to_utc();
    // The year in UTC must have four digits: others cannot be shown or stored.
    (1..=9999).contains(&time.year()).then_some(time)
}

/// Splits the operator suffix off a name. `params__in` is a param named `in`, not an operator.
fn split_operator(name: &str) -> (&str, EventFilterOperator) {
    for (suffix, operator) in [
        ("__in", EventFilterOperator::In),
        ("__gt", EventFilterOperator::Greater),
        ("__lt", EventFilterOperator::Less),
    ] {
        if let Some(path) = name.strip_suffix(suffix)
            && path != "params"
        {
            return (path, operator);
        }
    }
    (name, EventFilterOperator::Equal)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_pairs(pairs: &[(&str, &str)]) -> Result<EventQuery, ApiError> {
        parse_query(
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        )
    }

    #[test]
    fn values_are_bound_and_never_part_of_the_text() {
        let evil = "x') OR 1=1 -- \u{1}";
        let asked = parse_pairs(&[
            ("name", evil),
            (&format!("params__{evil}"), evil),
            ("params__a__b__gt", evil),
        ])
        .unwrap();
        let (select, count) =
            (asked.select_query().into_string(), asked.count_query().into_string());
        assert!(!select.contains("OR 1=1") && !count.contains("OR 1=1"), "{select}");
        assert!(select.contains("((params #> $2) #>> '{}') = ANY ($3)"), "{select}");
    }

    #[test]
    fn operators_are_at_the_end_of_names() {
        let subject = |name: &str| {
            let condition = parse_condition(name, "1").unwrap();
            (condition.subject, condition.operator)
        };
        let param = |path: &[&str]| {
            EventFilterSubject::Param(path.iter().map(|step| (*step).to_owned()).collect())
        };
        assert_eq!(subject("params__a__b"), (param(&["a", "b"]), EventFilterOperator::Equal));
        assert_eq!(subject("params__a__in"), (param(&["a"]), EventFilterOperator::In));
        assert_eq!(subject("params__in"), (param(&["in"]), EventFilterOperator::Equal));
        assert_eq!(subject("params__in__in"), (param(&["in"]), EventFilterOperator::In));
        for bad in [
            "",
            "params",
            "params__",
            "x",
            "_id",
            "time_created",
            "time_created__in",
            "name__like",
            "event_id",
        ] {
            assert!(parse_condition(bad, "1").is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (name, value) in [
            ("limit", "1001"),
            ("limit", "x"),
            ("offset", "-1"),
            ("sort", "name"),
            ("count", "1"),
            ("name", "a\0"),
        ] {
            assert!(parse_pairs(&[(name, value)]).is_err(), "{name}={value}");
        }
        assert_eq!(
            parse_pairs(&[("offset", ""), ("limit", "2"), ("sort", "_id")]).unwrap().sort,
            "event_id"
        );
    }
}
