//! Filters of a listing: read into conditions, which are compiled to SQL.

#[cfg(test)]
mod properties;
mod sql;

use chrono::{DateTime, Datelike as _, Utc};
use serving::error::ApiError;

use super::short;
use crate::EventId;

pub(super) use sql::list;

/// Events of a listing, unless the caller says otherwise, and at most.
const LIMIT: i64 = 100;
const MOST: i64 = 1000;
/// Filters of a query, steps of a path, values of a list.
const MOST_FILTERS: usize = 32;
const DEEPEST: usize = 32;
const MOST_VALUES: usize = 1000;

/// How a value is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Equal,
    In,
    Greater,
    Less,
}

/// What is compared.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Subject {
    Id,
    Name,
    Author,
    TimeCreated,
    /// A place in the params.
    Param(Vec<String>),
}

/// With what.
#[derive(Debug, Clone, PartialEq)]
enum Operand {
    Ids(Vec<i64>),
    Texts(Vec<String>),
    Time(DateTime<Utc>),
}

#[derive(Debug, Clone, PartialEq)]
struct Condition {
    subject: Subject,
    operator: Operator,
    operand: Operand,
}

/// A query.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Asked {
    conditions: Vec<Condition>,
    sort: &'static str,
    limit: i64,
    offset: i64,
    count: bool,
}

/// Reads a query; what is wrong is said with the parameter's name.
pub(super) fn parse(given: Vec<(String, String)>) -> Result<Asked, ApiError> {
    let mut asked =
        Asked { conditions: Vec::new(), sort: "event_id DESC", limit: LIMIT, offset: 0, count: false };
    for (name, value) in given {
        let wrong = |reason: String| ApiError::field(short(&name), reason);
        let number = |range: std::ops::RangeInclusive<i64>| {
            let number = value.parse().ok().filter(|number| range.contains(number));
            number.ok_or_else(|| {
                wrong(format!("must be a whole number from {} to {}", range.start(), range.end()))
            })
        };
        match name.as_str() {
            "limit" => asked.limit = number(0..=MOST)?,
            "offset" if value.is_empty() => {}
            "offset" => asked.offset = number(0..=i64::from(i32::MAX))?,
            "count" => {
                asked.count = match value.as_str() {
                    "true" => true,
                    "false" => false,
                    _ => return Err(wrong("must be true or false".to_owned())),
                };
            }
            "sort" => {
                asked.sort = match value.as_str() {
                    // The events of one transaction have one time.
                    "_id" => "event_id",
                    "-_id" => "event_id DESC",
                    "time_created" => "time_created, event_id",
                    "-time_created" => "time_created DESC, event_id DESC",
                    _ => return Err(wrong("must be _id, -_id, time_created or -time_created".to_owned())),
                };
            }
            _ => asked.conditions.push(condition(&name, &value)?),
        }
    }
    if asked.conditions.len() > MOST_FILTERS {
        return Err(ApiError::field("filters", format!("there must be at most {MOST_FILTERS}")));
    }
    Ok(asked)
}

fn condition(name: &str, value: &str) -> Result<Condition, ApiError> {
    let wrong = |reason: String| ApiError::field(short(name), reason);
    if name.contains('\0') || value.contains('\0') {
        return Err(wrong("must hold no NUL".to_owned()));
    }
    let (path, operator) = operator(name);
    let subject = match path {
        "_id" => Subject::Id,
        "name" => Subject::Name,
        "author" => Subject::Author,
        "time_created" => Subject::TimeCreated,
        _ => match path.strip_prefix("params__").filter(|path| !path.is_empty()) {
            Some(path) => Subject::Param(path.split("__").map(str::to_owned).collect()),
            None => {
                let allowed = "unknown parameter; allowed are _id, name, author, time_created, params__…, each also \
                               with __in, __gt, __lt, and sort, limit, offset, count";
                return Err(wrong(allowed.to_owned()));
            }
        },
    };
    if matches!(&subject, Subject::Param(path) if path.len() > DEEPEST) {
        return Err(wrong(format!("must be at most {DEEPEST} levels deep")));
    }
    let texts: Vec<String> = match operator {
        Operator::In => value.split(',').map(str::to_owned).collect(),
        Operator::Equal | Operator::Greater | Operator::Less => vec![value.to_owned()],
    };
    if texts.len() > MOST_VALUES {
        return Err(wrong(format!("must list at most {MOST_VALUES} values")));
    }
    let operand = match subject {
        Subject::Id => {
            let ids = texts.iter().map(|text| EventId::parse(text).map(|id| id.0)).collect::<Option<_>>();
            Operand::Ids(ids.ok_or_else(|| wrong("must be the _id of an event".to_owned()))?)
        }
        Subject::TimeCreated if operator == Operator::In => {
            return Err(wrong("a time is compared with __gt and __lt".to_owned()));
        }
        Subject::TimeCreated => {
            // A plus sign that was not encoded has become a space.
            let time = DateTime::parse_from_rfc3339(&value.replace(' ', "+"));
            // Its year in UTC has four digits: others could be taken, but not shown nor stored.
            let time = time.map(|time| time.to_utc()).ok().filter(|time| (1..=9999).contains(&time.year()));
            Operand::Time(
                time.ok_or_else(|| wrong("must be a time such as 2026-11-25T21:00:00Z".to_owned()))?,
            )
        }
        Subject::Name | Subject::Author | Subject::Param(_) => Operand::Texts(texts),
    };
    Ok(Condition { subject, operator, operand })
}

/// The operator at the end of a name; a param may be called like one.
fn operator(name: &str) -> (&str, Operator) {
    for (suffix, operator) in [("__in", Operator::In), ("__gt", Operator::Greater), ("__lt", Operator::Less)]
    {
        if let Some(path) = name.strip_suffix(suffix)
            && path != "params"
        {
            return (path, operator);
        }
    }
    (name, Operator::Equal)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(pairs: &[(&str, &str)]) -> Result<Asked, ApiError> {
        parse(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn values_are_bound_and_never_part_of_the_text() {
        let evil = "x') OR 1=1 -- \u{1}";
        let asked = parsed(&[("name", evil), (&format!("params__{evil}"), evil), ("params__a__b__gt", evil)])
            .unwrap();
        let (select, count) = (asked.select().into_string(), asked.counting().into_string());
        assert!(!select.contains("OR 1=1") && !count.contains("OR 1=1"), "{select}");
        assert!(select.contains("((params #> $2) #>> '{}') = ANY ($3)"), "{select}");
    }

    #[test]
    fn operators_are_at_the_end_of_names() {
        let subject = |name: &str| {
            let condition = condition(name, "1").unwrap();
            (condition.subject, condition.operator)
        };
        let param = |path: &[&str]| Subject::Param(path.iter().map(|step| (*step).to_owned()).collect());
        assert_eq!(subject("params__a__b"), (param(&["a", "b"]), Operator::Equal));
        assert_eq!(subject("params__a__in"), (param(&["a"]), Operator::In));
        assert_eq!(subject("params__in"), (param(&["in"]), Operator::Equal));
        assert_eq!(subject("params__in__in"), (param(&["in"]), Operator::In));
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
            assert!(condition(bad, "1").is_err(), "{bad}");
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
            assert!(parsed(&[(name, value)]).is_err(), "{name}={value}");
        }
        assert_eq!(parsed(&[("offset", ""), ("limit", "2"), ("sort", "_id")]).unwrap().sort, "event_id");
    }
}
