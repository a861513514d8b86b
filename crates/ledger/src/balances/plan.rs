//! Which aggregates answer a question, and where they end.

use chrono::{DateTime, Utc};
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::QueryAs;
use sqlx::{FromRow, Postgres};

use super::Question;
use crate::aggregates::{CutOffs, cut_offs, serving};
use crate::types::{AccountType, Interval};

/// With more events than these not yet aggregated, the account's own events are read instead.
const MOST_LAG: i64 = 100_000;

#[derive(Debug, Clone)]
pub(super) struct Plan {
    account_id: i64,
    type_name: String,
    /// The names of the grouping that is asked, joined by commas.
    pub(super) grouping: String,
    pub(super) interval: Interval,
    pub(super) to: CutOffs,
    at: DateTime<Utc>,
    from: Option<(CutOffs, DateTime<Utc>)>,
}

impl Plan {
    pub(super) fn of(kind: &AccountType, question: &Question) -> Self {
        let asked = question.filter.keys().chain(&question.group_by).map(String::as_str);
        Self {
            account_id: question.account_id,
            type_name: kind.name.clone(),
            grouping: serving(kind, &asked.collect::<Vec<_>>()),
            interval: kind.aggregate,
            to: cut_offs(kind.aggregate, question.to),
            at: question.to,
            from: question.from.map(|from| (cut_offs(kind.aggregate, from), from)),
        }
    }

    /// Binds the arguments of `account_sums` as $1 to $10, and those of its second call, for `from`, as $11 to $15.
    pub(super) fn bind<'q, T: for<'r> FromRow<'r, PgRow>>(
        &self,
        query: QueryAs<'q, Postgres, T, PgArguments>,
    ) -> QueryAs<'q, Postgres, T, PgArguments> {
        let from = self.from.map(|(cut, _)| cut);
        query
            .bind(self.account_id)
            .bind(self.type_name.clone())
            .bind(self.grouping.clone())
            .bind(self.interval.name())
            .bind(self.to.year)
            .bind(self.to.month)
            .bind(self.to.day)
            .bind(self.to.cut_off)
            .bind(self.at)
            .bind(MOST_LAG)
            .bind(from.map(|cut| cut.year))
            .bind(from.map(|cut| cut.month))
            .bind(from.map(|cut| cut.day))
            .bind(from.map(|cut| cut.cut_off))
            .bind(self.from.map(|(_, from)| from))
    }
}
