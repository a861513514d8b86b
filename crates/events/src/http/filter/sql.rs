//! Conditions as SQL: fragments of this file and bound values, nothing else.

use sqlx::{PgPool, Postgres, QueryBuilder};
use store::{Error, Operation, Result, run_tx};

use super::{Asked, Condition, Operand, Operator, Subject};
use crate::write::Row;
use crate::{Event, EventId};

/// What is counted at most.
const MOST_COUNTED: i64 = 10_000;
/// How long a query may look, in milliseconds.
const PATIENCE: &str = "2000";

/// The events asked for, and how many there are; nothing if that would take too long.
pub(in crate::http) async fn list(pool: &PgPool, asked: Asked) -> Result<Option<(Vec<Event>, Option<i64>)>> {
    run_tx(pool, Operation::named("list_events").expensive(), move |connection| {
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
    pub(super) fn select(&self) -> QueryBuilder<Postgres> {
        let mut query = QueryBuilder::new(
            "-- list_events\nSELECT event_id, name, params, author, time_created, task_id, depth, config_version FROM events",
        );
        self.conditions(&mut query);
        query.push(" ORDER BY ").push(self.sort);
        query.push(" LIMIT ").push_bind(self.limit).push(" OFFSET ").push_bind(self.offset);
        query
    }

    pub(super) fn counting(&self) -> QueryBuilder<Postgres> {
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

    /// Texts, numbers and booleans by what they read as, numbers also by their value; greater and less by value if both are
    /// numbers.
    fn push_param(&self, query: &mut QueryBuilder<Postgres>, path: &[String], values: &[String]) {
        let (place, mut numbers) = (Place(path), values.iter().filter_map(|value| decimal(value)));
        let symbol = match self.operator {
            Operator::Equal | Operator::In => {
                place.push_text(query.push("("));
                query.push(" = ANY (").push_bind(values.to_vec()).push(") OR CASE WHEN jsonb_typeof(");
                place.push_value(query);
                place.push_text(query.push(") = 'number' THEN "));
                query.push("::numeric = ANY (").push_bind(numbers.collect::<Vec<_>>());
                query.push("::text[]::numeric[]) END)");
                return;
            }
            Operator::Greater => " > ",
            Operator::Less => " < ",
        };
        let (first, number) = (values.first().cloned().unwrap_or_default(), numbers.next());
        query.push("CASE WHEN jsonb_typeof(");
        place.push_value(query);
        query.push(") = 'number' AND ").push_bind(number.clone()).push("::text IS NOT NULL THEN ");
        place.push_text(query);
        query.push("::numeric").push(symbol).push_bind(number).push("::text::numeric ELSE ");
        place.push_text(query);
        query.push(" COLLATE \"C\"").push(symbol).push_bind(first).push(" END");
    }
}

/// A place in the params: a single name is looked up as it is, several may be parts of one.
struct Place<'p>(&'p [String]);

impl Place<'_> {
    fn push_value(&self, query: &mut QueryBuilder<Postgres>) {
        let several = self.0.len() > 1;
        query.push(if several { "event_param(params, " } else { "(params #> " });
        query.push_bind(self.0.to_vec()).push(")");
    }

    fn push_text(&self, query: &mut QueryBuilder<Postgres>) {
        query.push("(");
        self.push_value(query);
        query.push(" #>> '{}')");
    }
}

/// A number as Postgres reads it exactly, of a size that events can have.
fn decimal(text: &str) -> Option<String> {
    let number = text.trim();
    let (mantissa, power) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let plain = mantissa.strip_prefix(['-', '+']).unwrap_or(mantissa);
    let digits = plain.chars().filter(char::is_ascii_digit).count();
    let points = plain.chars().filter(|c| *c == '.').count();
    let is_number = digits > 0 && points <= 1 && digits + points == plain.len() && number.len() <= 400;
    let is_near = power.parse::<i32>().is_ok_and(|power| (-400..=400).contains(&power));
    (is_number && is_near).then(|| number.to_owned())
}
