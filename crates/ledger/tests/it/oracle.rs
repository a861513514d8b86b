//! Promise: every balance and turnover, by every allowed grouping, at every date, equals the exact
//! sum of the events.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Duration, Utc};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::harness::Served;

const EVENTS: usize = 9_000;

/// An event of the oracle; amounts in units of 10^-9.
struct Entry {
    storage: i64,
    tuple: [Option<i64>; 2],
    dt: DateTime<Utc>,
    debit: i128,
    credit: i128,
}

struct Random(StdRng);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0.random_range(0..end)
    }

    fn amount(&mut self) -> (String, i128) {
        let digits = 1 + self.below(15) as u32;
        let (whole, fraction) = (self.below(10_u64.pow(digits)), self.below(1_000_000_000));
        (format!("{whole}.{fraction:09}"), i128::from(whole) * 1_000_000_000 + i128::from(fraction))
    }

    fn entry(&mut self, n: usize) -> (Entry, Value) {
        let storage = self.below(12) as i64;
        let mut maybe = |values: u64| (self.below(4) > 0).then(|| self.below(values) as i64);
        let tuple = [maybe(4), maybe(3)];
        let start: DateTime<Utc> = "2024-01-01T00:00:00Z".parse().unwrap();
        let dt = start + Duration::microseconds(self.below(200 * 86_400 * 1_000_000) as i64);
        let (text, units) = self.amount();
        let debit = self.below(2) == 0;
        let mut attributes = json!({"storage_id": storage});
        for (name, value) in ["product_id", "pickup_point_id"].iter().zip(tuple) {
            if let Some(value) = value {
                attributes[*name] = value.into();
            }
        }
        let mut event = json!({"type": "storage_outflow", "event_id": format!("e{n}"),
            "dt": dt.to_rfc3339_opts(chrono::SecondsFormat::Micros, true), "attributes": attributes});
        event[if debit { "debit" } else { "credit" }] = text.into();
        let (debit, credit) = if debit { (units, 0) } else { (0, units) };
        (Entry { storage, tuple, dt, debit, credit }, event)
    }
}

fn units(text: &Value) -> i128 {
    let text = text.as_str().unwrap();
    let (sign, text) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    sign * (whole.parse::<i128>().unwrap() * 1_000_000_000
        + format!("{fraction:0<9}").parse::<i128>().unwrap())
}

type Groups = BTreeMap<Vec<Option<i64>>, (i128, i128, i128)>;

fn expected(entries: &[Entry], wanted: impl Fn(&Entry) -> bool, group_by: &[usize]) -> Groups {
    let mut groups = Groups::new();
    if group_by.is_empty() {
        groups.insert(Vec::new(), (0, 0, 0));
    }
    for entry in entries.iter().filter(|entry| wanted(entry)) {
        let group = groups.entry(group_by.iter().map(|n| entry.tuple[*n]).collect()).or_default();
        group.0 += entry.debit;
        group.1 += entry.credit;
        group.2 += entry.debit - entry.credit;
    }
    groups
}

fn answered(answer: &Value, names: &[&str]) -> Groups {
    let group = |group: &Value| {
        let key = names.iter().map(|name| group["attributes"][*name].as_i64()).collect();
        (key, (units(&group["debit"]), units(&group["credit"]), units(&group["balance"])))
    };
    answer["groups"].as_array().unwrap().iter().map(group).collect()
}

#[test]
fn sums_are_those_of_an_independent_computation() {
    store::testing::run_test(async {
        let served = Served::fresh().await;
        let mut random = Random(StdRng::seed_from_u64(1));
        let (entries, events): (Vec<Entry>, Vec<Value>) =
            (0..EVENTS).map(|n| random.entry(n)).unzip();
        for call in events.chunks(450) {
            assert_eq!(served.write(call).await.0, 200);
        }
        compare(&served, &mut random, &entries, 400).await;
        listings_are_complete(&served, &entries).await;
    });
}

#[test]
fn so_they_are_while_aggregates_come_into_being_lag_and_are_complete() {
    for interval in ["hour", "day", "month"] {
        store::testing::run_test(async move {
            let served = Served::with_interval(interval).await;
            let mut random = Random(StdRng::seed_from_u64(2));
            let (entries, events): (Vec<Entry>, Vec<Value>) =
                (0..EVENTS / 3).map(|n| random.entry(n)).unzip();
            let stop = CancellationToken::new();
            let mut duties = served.aggregate(&stop);
            for (n, call) in events.chunks(150).enumerate() {
                assert_eq!(served.write(call).await.0, 200);
                if n % 5 == 0 {
                    compare(&served, &mut random, &entries[..(n + 1) * 150], 8).await;
                }
                if n == 13 {
                    // No aggregation from here on.
                    served.all_aggregated().await;
                    stop.cancel();
                    while duties.join_next().await.is_some() {}
                }
            }
            let lagging = compare(&served, &mut random, &entries, 60).await;
            assert!(lagging.aggregated > 0 && lagging.late > 0, "{lagging:?}");
            let stop = CancellationToken::new();
            let mut duties = served.aggregate(&stop);
            served.all_aggregated().await;
            let complete = compare(&served, &mut random, &entries, 60).await;
            assert!(complete.aggregated > 0 && complete.late == 0, "{complete:?}");
            stop.cancel();
            while duties.join_next().await.is_some() {}
        });
    }
}

/// Parts that the compared balances were computed from.
#[derive(Debug, Default)]
struct MadeOf {
    aggregated: i64,
    late: i64,
}

/// Compares `questions` random balances and turnovers with the oracle.
async fn compare(
    served: &Served,
    random: &mut Random,
    entries: &[Entry],
    questions: usize,
) -> MadeOf {
    let mut made_of = MadeOf::default();
    let groupings: [&[usize]; 4] = [&[], &[0], &[0, 1], &[1]];
    let text = |at: DateTime<Utc>| at.to_rfc3339_opts(chrono::SecondsFormat::Micros, true);
    for n in 0..questions {
        let (a, b) = (random.entry(0).0, random.entry(0).0);
        let (from, to) = (a.dt.min(b.dt), a.dt.max(b.dt));
        let group_by = groupings[n % 4];
        let names: Vec<&str> =
            group_by.iter().map(|n| ["product_id", "pickup_point_id"][*n]).collect();
        let filter = a.tuple[0].filter(|_| n % 3 == 0);
        let filters = filter.map(|value| format!("&product_id={value}")).unwrap_or_default();
        let query = format!("storage_id={}&group_by={}{filters}", a.storage, names.join(","));
        let wanted = |e: &Entry| {
            e.storage == a.storage && filter.is_none_or(|value| e.tuple[0] == Some(value))
        };
        let path = format!("/v1/balances/storage_outflow?{query}&at={}&explain=true", text(to));
        let (code, balance) = served.get(&path).await;
        assert_eq!(code, 200, "{balance}");
        let before = expected(entries, |e| wanted(e) && e.dt < to, group_by);
        assert_eq!(answered(&balance, &names), before, "{path} {}", balance["explain"]);
        made_of.aggregated += balance["explain"]["aggregate"]["events"].as_i64().unwrap_or(0);
        made_of.late += balance["explain"]["events_not_aggregated"].as_i64().unwrap();
        let path =
            format!("/v1/turnovers/storage_outflow?{query}&from={}&to={}", text(from), text(to));
        let (_, turnover) = served.get(&path).await;
        let within = |e: &Entry| wanted(e) && e.dt >= from && e.dt < to;
        assert_eq!(answered(&turnover, &names), expected(entries, within, group_by), "{path}");
    }
    made_of
}

async fn listings_are_complete(served: &Served, entries: &[Entry]) {
    for storage in 0..12 {
        let (mut seen, mut token) = (Vec::new(), String::new());
        loop {
            let (code, page) = served
                .get(&format!("/v1/events/storage_outflow?storage_id={storage}&limit=97{token}"))
                .await;
            assert_eq!(code, 200, "{page}");
            seen.extend(
                page["events"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|e| (e["dt"].to_string(), e["event_id"].to_string())),
            );
            match page["next_page_token"].as_str() {
                Some(next) => token = format!("&page_token={next}"),
                None => break,
            }
        }
        assert_eq!(seen.len(), entries.iter().filter(|entry| entry.storage == storage).count());
        assert_eq!(seen.iter().collect::<BTreeSet<_>>().len(), seen.len());
    }
}
