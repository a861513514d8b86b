//! Conditions as SQL: constant fragments of this file and bound values only, so no SQL injection.
//!
//! - Cost: `statement_timeout` of 2 s per statement; counts stop at 10,000.

use sqlx::{PgConnection, PgPool, Postgres, QueryBuilder};
use store::{Error, PgOperation, Result};

use super::{
    EventFilterCondition, EventFilterOperand, EventFilterOperator, EventFilterSubject, EventQuery,
};
use crate::write::StoredEventRow;
use crate::{Event, EventId};

/// Upper bound of `count`.
const MAX_COUNTED_EVENTS: i64 = 10_000;
/// `statement_timeout` of a listing, in milliseconds.
const LIST_STATEMENT_TIMEOUT: &str = "2000";

/// The requested events and, if requested, their total; `None` on a statement timeout.
pub(in crate::http) async fn query_events(
    pool: &PgPool,
    event_query: EventQuery,
) -> Result<Option<(Vec<Event>, Option<i64>)>> {
    store::transaction(PgOperation::named("list_events").expensive(), event_query)
        .run(pool, |connection, query| Box::pin(query_events_in_tx(connection, query)))
        .await
}

async fn query_events_in_tx(
    connection: &mut PgConnection,
    query: &EventQuery,
) -> Result<Option<(Vec<Event>, Option<i64>)>> {
    store::statement("bound_listing", "SELECT set_config('statement_timeout', $1, true)")
        .bind(LIST_STATEMENT_TIMEOUT)
        .execute(&mut *connection)
        .await?;
    let rows: std::result::Result<Vec<StoredEventRow>, sqlx::Error> =
        query.select_query().build_query_as().fetch_all(&mut *connection).await;
    let rows = match rows.map_err(Error::from) {
        Err(error) if is_statement_timeout(&error) => return Ok(None),
        rows => rows?,
    };
    let mut total = None;
    if query.count {
        let counted = query.count_query().build_query_scalar().fetch_one(connection).await;
        total = match counted.map_err(Error::from) {
            Err(error) if is_statement_timeout(&error) => return Ok(None),
            counted => Some(counted?),
        };
    }
    Ok(Some((rows.into_iter().map(StoredEventRow::into_event).collect(), total)))
}

/// Whether the error is SQLSTATE 57014, `query_canceled`.
fn is_statement_timeout(error: &Error) -> bool {
    let Error::Unavailable(error) = error else { return false };
    error.as_database_error().is_some_and(|error| error.code().as_deref() == Some("57014"))
}

impl EventQuery {
    pub(super) fn select_query(&self) -> QueryBuilder<Postgres> {
        let mut query = QueryBuilder::new(
            "-- list_events\nSELECT event_id, name, params, author, time_created, task_id, depth, config_version FROM events",
        );
        self.push_conditions(&mut query);
        query.push(" ORDER BY ").push(self.sort);
        query.push(" LIMIT ").push_bind(self.limit).push(" OFFSET ").push_bind(self.offset);
        query
    }

    pub(super) fn count_query(&self) -> QueryBuilder<Postgres> {
        let mut query =
            QueryBuilder::new("-- count_events\nSELECT count(*) FROM (SELECT FROM events");
        self.push_conditions(&mut query);
        query.push(" LIMIT ").push_bind(MAX_COUNTED_EVENTS).push(") AS counted");
        query
    }

    fn push_conditions(&self, query: &mut QueryBuilder<Postgres>) {
        for (n, condition) in self.conditions.iter().enumerate() {
            query.push(if n == 0 { " WHERE " } else { " AND " });
            condition.push_sql(query);
        }
    }
}

impl EventFilterCondition {
    fn push_sql(&self, query: &mut QueryBuilder<Postgres>) {
        let symbol = match self.operator {
            EventFilterOperator::Equal => " = ",
            EventFilterOperator::In => " = ANY ",
            EventFilterOperator::Greater => " > ",
            EventFilterOperator::Less => " < ",
        };
        match (&self.subject, &self.operand) {
            (EventFilterSubject::Param(path), EventFilterOperand::Texts(values)) => {
                self.push_param(query, path, values)
            }
            (EventFilterSubject::TimeCreated, EventFilterOperand::Time(time)) => {
                query.push("time_created").push(symbol).push_bind(*time);
                if self.operator != EventFilterOperator::Less {
                    // Ids are ordered by time: this bound prunes older partitions.
                    query.push(" AND event_id >= ").push_bind(EventId::not_before(*time));
                }
            }
            (EventFilterSubject::Id, EventFilterOperand::Ids(ids)) => {
                self.push_values(query, "event_id", symbol, ids)
            }
            (EventFilterSubject::Author, EventFilterOperand::Texts(texts)) => {
                self.push_values(query, "author", symbol, texts)
            }
            (_, EventFilterOperand::Texts(texts)) => self.push_values(query, "name", symbol, texts),
            // Unreachable: `parse_condition` builds no other combination.
            (_, EventFilterOperand::Ids(_) | EventFilterOperand::Time(_)) => {
                query.push("false");
            }
        }
    }

    fn push_values<T>(
        &self,
        query: &mut QueryBuilder<Postgres>,
        column: &str,
        symbol: &str,
        values: &[T],
    ) where
        T: Clone + Send + 'static,
        T: for<'q> sqlx::Encode<'q, Postgres> + sqlx::Type<Postgres>,
        Vec<T>: for<'q> sqlx::Encode<'q, Postgres> + sqlx::Type<Postgres>,
    {
        query.push(column).push(symbol);
        match (self.operator, values.first()) {
            (EventFilterOperator::In, _) => {
                query.push("(").push_bind(values.to_vec()).push(")");
            }
            (_, Some(value)) => {
                query.push_bind(value.clone());
            }
            (_, None) => {
                query.push("NULL");
            }
        }
    }

    /// Equality compares text, numbers and booleans by their text form, numbers also by value.
    /// Greater and less compare by value if both sides are numbers, else as text (`COLLATE "C"`).
    fn push_param(&self, query: &mut QueryBuilder<Postgres>, path: &[String], values: &[String]) {
        let (place, mut numbers) =
            (ParamPath(path), values.iter().filter_map(|value| parse_decimal(value)));
        let symbol = match self.operator {
            EventFilterOperator::Equal | EventFilterOperator::In => {
                place.push_text(query.push("("));
                query
                    .push(" = ANY (")
                    .push_bind(values.to_vec())
                    .push(") OR CASE WHEN jsonb_typeof(");
                place.push_json_value(query);
                place.push_text(query.push(") = 'number' THEN "));
                query.push("::numeric = ANY (").push_bind(numbers.collect::<Vec<_>>());
                query.push("::text[]::numeric[]) END)");
                return;
            }
            EventFilterOperator::Greater => " > ",
            EventFilterOperator::Less => " < ",
        };
        let (first, number) = (values.first().cloned().unwrap_or_default(), numbers.next());
        query.push("CASE WHEN jsonb_typeof(");
        place.push_json_value(query);
        query.push(") = 'number' AND ").push_bind(number.clone()).push("::text IS NOT NULL THEN ");
        place.push_text(query);
        query.push("::numeric").push(symbol).push_bind(number).push("::text::numeric ELSE ");
        place.push_text(query);
        query.push(" COLLATE \"C\"").push(symbol).push_bind(first).push(" END");
    }
}

/// Path into the params. A single name is looked up directly; several may also join to one name
/// with `__`, which `event_param` resolves.
struct ParamPath<'p>(&'p [String]);

impl ParamPath<'_> {
    fn push_json_value(&self, query: &mut QueryBuilder<Postgres>) {
        let several = self.0.len() > 1;
        query.push(if several { "event_param(params, " } else { "(params #> " });
        query.push_bind(self.0.to_vec()).push(")");
    }

    fn push_text(&self, query: &mut QueryBuilder<Postgres>) {
        query.push("(");
        self.push_json_value(query);
        query.push(" #>> '{}')");
    }
}

/// A decimal that Postgres parses exactly as `numeric`, of a bounded length and exponent.
fn parse_decimal(text: &str) -> Option<String> {
    let number = text.trim();
    let (mantissa, power) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let plain = mantissa.strip_prefix(['-', '+']).unwrap_or(mantissa);
    let digits = plain.chars().filter(char::is_ascii_digit).count();
    let points = plain.chars().filter(|c| *c == '.').count();
    let is_number =
        digits > 0 && points <= 1 && digits + points == plain.len() && number.len() <= 400;
    let is_near = power.parse::<i32>().is_ok_and(|power| (-400..=400).contains(&power));
    (is_number && is_near).then(|| number.to_owned())
}
