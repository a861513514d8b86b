//! Filters of a listing, compiled to SQL: fragments of this file and bound values, nothing else.

use chrono::{DateTime, Utc};
use serving::error::ApiError;
use sqlx::{PgPool, Postgres, QueryBuilder};
use store::{Error, Result, run_tx};

use super::short;
use crate::write::Row;
use crate::{Event, EventId};

/// Events of a listing, unless the caller says otherwise, and at most.
const LIMIT: i64 = 100;
const MOST: i64 = 1000;
/// What is counted at most.
const MOST_COUNTED: i64 = 10_000;
/// Filters of a query, steps of a path, values of a list.
const MOST_FILTERS: usize = 32;
const DEEPEST: usize = 32;
const MOST_VALUES: usize = 1000;
/// How long a query may look.
const PATIENCE: &str = "2000";

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
pub(super) fn parse(given: Vec<(String, String)>) -> std::result::Result<Asked, ApiError> {
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

fn condition(name: &str, value: &str) -> std::result::Result<Condition, ApiError> {
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
            let time = time.map_err(|_| wrong("must be a time such as 2026-11-25T21:00:00Z".to_owned()))?;
            Operand::Time(time.to_utc())
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

/// The events asked for, and how many there are; nothing if that would take too long.
pub(super) async fn list(pool: &PgPool, asked: Asked) -> Result<Option<(Vec<Event>, Option<i64>)>> {
    run_tx(pool, "list_events", move |connection| {
        let asked = asked.clone();
        Box::pin(async move {
            sqlx::query("SELECT set_config('statement_timeout', $1, true) -- bound_listing")
                .bind(PATIENCE)
                .execute(&mut *connection)
                .await?;
            let rows: std::result::Result<Vec<Row>, sqlx::Error> =
                asked.select().build_query_as().fetch_all(&mut *connection).await;
            let rows = match rows.map_err(Error::from) {
                Err(error) if took_too_long(&error) => return Ok(None),
                rows => rows?,
            };
            let mut total = None;
            if asked.count {
                let counted = asked.counting().build_query_scalar().fetch_one(&mut *connection).await;
                total = match counted.map_err(Error::from) {
                    Err(error) if took_too_long(&error) => return Ok(None),
                    counted => Some(counted?),
                };
            }
            Ok(Some((rows.into_iter().map(Row::event).collect(), total)))
        })
    })
    .await
}

/// query_canceled
fn took_too_long(error: &Error) -> bool {
    let Error::Unavailable(error) = error else { return false };
    error.as_database_error().is_some_and(|error| error.code().as_deref() == Some("57014"))
}

impl Asked {
    fn select(&self) -> QueryBuilder<Postgres> {
        let mut query = QueryBuilder::new(
            "-- list_events\nSELECT event_id, name, params, author, time_created, task_id, depth, config_version FROM events",
        );
        self.conditions(&mut query);
        query.push(" ORDER BY ").push(self.sort);
        query.push(" LIMIT ").push_bind(self.limit).push(" OFFSET ").push_bind(self.offset);
        query
    }

    fn counting(&self) -> QueryBuilder<Postgres> {
        let mut query = QueryBuilder::new("-- count_events\nSELECT count(*) FROM (SELECT FROM events");
        self.conditions(&mut query);
        query.push(" LIMIT ").push_bind(MOST_COUNTED).push(") AS counted");
        query
    }

    fn conditions(&self, query: &mut QueryBuilder<Postgres>) {
        for (n, condition) in self.conditions.iter().enumerate() {
            query.push(if n == 0 { " WHERE " } else { " AND " });
            condition.push(query);
        }
    }
}

impl Condition {
    fn push(&self, query: &mut QueryBuilder<Postgres>) {
        let symbol = match self.operator {
            Operator::Equal => " = ",
            Operator::In => " = ANY ",
            Operator::Greater => " > ",
            Operator::Less => " < ",
        };
        match (&self.subject, &self.operand) {
            (Subject::Param(path), Operand::Texts(values)) => self.push_param(query, path, values),
            (Subject::TimeCreated, Operand::Time(time)) => {
                query.push("time_created").push(symbol).push_bind(*time);
                if self.operator != Operator::Less {
                    // Ids go with time: nothing older is even looked at.
                    query.push(" AND event_id >= ").push_bind(EventId::not_before(*time).0);
                }
            }
            (Subject::Id, Operand::Ids(ids)) => self.push_values(query, "event_id", symbol, ids),
            (Subject::Author, Operand::Texts(texts)) => self.push_values(query, "author", symbol, texts),
            (_, Operand::Texts(texts)) => self.push_values(query, "name", symbol, texts),
            // `condition` makes no others.
            (_, Operand::Ids(_) | Operand::Time(_)) => drop(query.push("false")),
        }
    }

    fn push_values<T>(&self, query: &mut QueryBuilder<Postgres>, column: &str, symbol: &str, values: &[T])
    where
        T: Clone + Send + 'static,
        T: for<'q> sqlx::Encode<'q, Postgres> + sqlx::Type<Postgres>,
        Vec<T>: for<'q> sqlx::Encode<'q, Postgres> + sqlx::Type<Postgres>,
    {
        query.push(column).push(symbol);
        match (self.operator, values.first()) {
            (Operator::In, _) => drop(query.push("(").push_bind(values.to_vec()).push(")")),
            (_, Some(value)) => drop(query.push_bind(value.clone())),
            (_, None) => drop(query.push("NULL")),
        }
    }

    /// Texts, numbers and booleans by what they read as; greater and less by number if both are numbers.
    fn push_param(&self, query: &mut QueryBuilder<Postgres>, path: &[String], values: &[String]) {
        let (path, first) = (path.to_vec(), values.first().cloned().unwrap_or_default());
        let symbol = match self.operator {
            Operator::Equal | Operator::In => {
                query
                    .push("(params #>> ")
                    .push_bind(path)
                    .push(") = ANY (")
                    .push_bind(values.to_vec())
                    .push(")");
                return;
            }
            Operator::Greater => " > ",
            Operator::Less => " < ",
        };
        let number: Option<f64> = first.parse().ok().filter(|number: &f64| number.is_finite());
        query.push("CASE WHEN jsonb_typeof(params #> ").push_bind(path.clone());
        query.push(") = 'number' AND ").push_bind(number).push(" IS NOT NULL THEN (params #>> ");
        query.push_bind(path.clone()).push(")::numeric").push(symbol).push_bind(number).push("::numeric");
        query.push(" ELSE (params #>> ").push_bind(path).push(") COLLATE \"C\"").push(symbol);
        query.push_bind(first).push(" END");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(pairs: &[(&str, &str)]) -> std::result::Result<Asked, ApiError> {
        parse(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn values_are_bound_and_never_part_of_the_text() {
        let evil = "x') OR 1=1 -- \u{1}";
        let asked = parsed(&[("name", evil), (&format!("params__{evil}"), evil), ("params__a__b__gt", evil)])
            .unwrap();
        let (select, count) = (asked.select().into_string(), asked.counting().into_string());
        assert!(!select.contains("OR 1=1") && !count.contains("OR 1=1"), "{select}");
        assert!(select.contains("(params #>> $2) = ANY ($3)"), "{select}");
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
