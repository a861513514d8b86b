//! `ledger balance` and `ledger turnovers`.

use clap::ArgMatches;
use serde::Deserialize;
use serde_json::{Map, Value};
use settings::Resolved;

use super::{Failure, Service, output, parse, query, type_name, words};

/// The part of an answer that a table shows.
#[derive(Deserialize)]
struct Totals {
    attributes: Map<String, Value>,
    at: Option<String>,
    from: Option<String>,
    to: Option<String>,
    groups: Vec<Group>,
}

/// A page of an answer, as it was given.
#[derive(Deserialize)]
struct Page {
    next_page_token: Option<String>,
    #[serde(flatten)]
    answer: Map<String, Value>,
}

#[derive(Deserialize)]
struct Group {
    attributes: Map<String, Value>,
    debit: String,
    credit: String,
    balance: String,
}

pub(super) async fn balance(args: &ArgMatches, resolved: &Resolved) -> Result<(), Failure> {
    show(args, resolved, "balances", &[("at", "at"), ("group_by", "group-by")]).await
}

pub(super) async fn turnovers(args: &ArgMatches, resolved: &Resolved) -> Result<(), Failure> {
    show(args, resolved, "turnovers", &[("from", "from"), ("to", "to"), ("group_by", "group-by")]).await
}

async fn show(
    args: &ArgMatches,
    resolved: &Resolved,
    route: &str,
    options: &[(&'static str, &str)],
) -> Result<(), Failure> {
    let attributes = words::attributes(args)?;
    let service = Service::named(args, resolved)?;
    let name = type_name(args);
    let answer = all_pages(&service, &["v1", route, name], &query(args, &attributes, options)).await?;
    if output::is_json(args) {
        output::json(answer);
        return Ok(());
    }
    let totals: Totals = parse(&service, &answer)?;
    // The filters are not in the answer.
    let filters = attributes.iter().filter(|(name, _)| !totals.attributes.contains_key(name));
    output::line(title(name, &totals, filters));
    let (header, rows) = table(&totals);
    output::grid(header, rows);
    Ok(())
}

/// The answer with the groups of all its pages.
async fn all_pages(service: &Service, path: &[&str], question: &[(&str, &str)]) -> Result<String, Failure> {
    let text = service.get(path, question).await?;
    let Page { next_page_token: mut next, mut answer } = parse(service, &text)?;
    if next.is_none() {
        return Ok(text);
    }
    while let Some(token) = next {
        let mut parameters = question.to_vec();
        parameters.push(("page_token", &token));
        let page: Page = parse(service, &service.get(path, &parameters).await?)?;
        if let (Some(Value::Array(all)), Some(Value::Array(more))) =
            (answer.get_mut("groups"), page.answer.get("groups"))
        {
            all.extend(more.iter().cloned());
        }
        next = page.next_page_token.filter(|next| *next != token);
    }
    Ok(Value::Object(answer).to_string())
}

/// What the sums are of.
fn title<'a>(name: &str, totals: &Totals, filters: impl Iterator<Item = &'a (String, String)>) -> String {
    let mut words = vec![name.to_owned()];
    words.extend(totals.attributes.iter().map(|(name, value)| format!("{name}={}", output::value(value))));
    words.extend(filters.map(|(name, value)| format!("{name}={value}")));
    for (word, moment) in [("at", &totals.at), ("from", &totals.from), ("to", &totals.to)] {
        words.extend(moment.as_ref().map(|moment| format!("{word} {moment}")));
    }
    words.join(" ")
}

fn table(totals: &Totals) -> (Vec<String>, Vec<Vec<String>>) {
    let by = totals.groups.first().map(|group| group.attributes.keys().cloned()).into_iter().flatten();
    let header = by.chain(["debit", "credit", "balance"].map(str::to_owned)).collect();
    let row = |group: &Group| {
        let sums = [&group.debit, &group.credit, &group.balance].map(String::clone);
        group.attributes.values().map(output::value).chain(sums).collect()
    };
    (header, totals.groups.iter().map(row).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn totals(groups: &str) -> Totals {
        let text = format!(
            r#"{{"type": "t", "attributes": {{"n": 7}}, "at": "2024-03-01T00:00:00Z", "groups": [{groups}]}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn groups_come_before_their_sums() {
        let totals = totals(
            r#"{"attributes": {"a": null, "b": "x y"}, "debit": "1", "credit": "0", "balance": "1"},
               {"attributes": {"a": 4, "b": true}, "debit": "0", "credit": "2.5", "balance": "-2.5"}"#,
        );
        let (header, rows) = table(&totals);
        assert_eq!(header, ["a", "b", "debit", "credit", "balance"]);
        assert_eq!(rows, [["-", "x y", "1", "0", "1"], ["4", "true", "0", "2.5", "-2.5"]]);
        let filter = ("c".to_owned(), "z".to_owned());
        assert_eq!(title("t", &totals, [&filter].into_iter()), "t n=7 c=z at 2024-03-01T00:00:00Z");
    }

    #[test]
    fn without_groups_there_is_a_header() {
        let (header, rows) = table(&totals(""));
        assert_eq!((header.len(), rows.len()), (3, 0));
    }
}
