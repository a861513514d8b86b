//! Commands `ledger balance` and `ledger turnovers`.

use clap::ArgMatches;
use serde::Deserialize;
use serde_json::{Map, Value};
use settings::ResolvedSettings;

use super::{
    CommandFailure, ServiceHttpClient, account_type_arg, key_values, output, parse_answer,
    query_parameters,
};

/// Fields of an answer that a table shows.
#[derive(Deserialize)]
struct RemoteTotals {
    attributes: Map<String, Value>,
    at: Option<String>,
    from: Option<String>,
    to: Option<String>,
    groups: Vec<RemoteTotalsGroup>,
}

/// A page of an answer, with all its fields.
#[derive(Deserialize)]
struct RemoteTotalsPage {
    next_page_token: Option<String>,
    #[serde(flatten)]
    answer: Map<String, Value>,
}

#[derive(Deserialize)]
struct RemoteTotalsGroup {
    attributes: Map<String, Value>,
    debit: String,
    credit: String,
    balance: String,
}

pub(super) async fn print_balance(
    args: &ArgMatches,
    resolved: &ResolvedSettings,
) -> Result<(), CommandFailure> {
    print_totals(args, resolved, "balances", &[("at", "at"), ("group_by", "group-by")]).await
}

pub(super) async fn print_turnovers(
    args: &ArgMatches,
    resolved: &ResolvedSettings,
) -> Result<(), CommandFailure> {
    print_totals(
        args,
        resolved,
        "turnovers",
        &[("from", "from"), ("to", "to"), ("group_by", "group-by")],
    )
    .await
}

async fn print_totals(
    args: &ArgMatches,
    resolved: &ResolvedSettings,
    route: &str,
    options: &[(&'static str, &str)],
) -> Result<(), CommandFailure> {
    let attributes = key_values::parse_attributes(args)?;
    let service = ServiceHttpClient::from_args(args, resolved)?;
    let name = account_type_arg(args);
    let answer = fetch_all_pages(
        &service,
        &["v1", route, name],
        &query_parameters(args, &attributes, options),
    )
    .await?;
    if output::is_json_output(args) {
        output::print_json(answer);
        return Ok(());
    }
    let totals: RemoteTotals = parse_answer(&service, &answer)?;
    // Attributes that only filter are missing in the answer.
    let filters = attributes.iter().filter(|(name, _)| !totals.attributes.contains_key(name));
    output::print_line(totals_title(name, &totals, filters));
    let (header, rows) = totals_table(&totals);
    output::print_grid(header, rows);
    Ok(())
}

/// First page, with the groups of all pages appended.
async fn fetch_all_pages(
    service: &ServiceHttpClient,
    path: &[&str],
    base_query: &[(&str, &str)],
) -> Result<String, CommandFailure> {
    let text = service.get(path, base_query).await?;
    let RemoteTotalsPage { next_page_token: mut next, mut answer } = parse_answer(service, &text)?;
    if next.is_none() {
        return Ok(text);
    }
    while let Some(token) = next {
        let mut parameters = base_query.to_vec();
        parameters.push(("page_token", &token));
        let page: RemoteTotalsPage = parse_answer(service, &service.get(path, &parameters).await?)?;
        if let (Some(Value::Array(all)), Some(Value::Array(more))) =
            (answer.get_mut("groups"), page.answer.get("groups"))
        {
            all.extend(more.iter().cloned());
        }
        next = page.next_page_token.filter(|next| *next != token);
    }
    Ok(Value::Object(answer).to_string())
}

/// Title of the table: account type, attributes and moments.
fn totals_title<'a>(
    name: &str,
    totals: &RemoteTotals,
    filters: impl Iterator<Item = &'a (String, String)>,
) -> String {
    let mut words = vec![name.to_owned()];
    words.extend(
        totals
            .attributes
            .iter()
            .map(|(name, value)| format!("{name}={}", output::value_text(value))),
    );
    words.extend(filters.map(|(name, value)| format!("{name}={value}")));
    for (word, moment) in [("at", &totals.at), ("from", &totals.from), ("to", &totals.to)] {
        words.extend(moment.as_ref().map(|moment| format!("{word} {moment}")));
    }
    words.join(" ")
}

fn totals_table(totals: &RemoteTotals) -> (Vec<String>, Vec<Vec<String>>) {
    let mut header: Vec<String> = Vec::new();
    if let Some(group) = totals.groups.first() {
        header.extend(group.attributes.keys().cloned());
    }
    header.extend(["debit", "credit", "balance"].map(str::to_owned));
    (header, totals.groups.iter().map(totals_row).collect())
}

fn totals_row(group: &RemoteTotalsGroup) -> Vec<String> {
    let mut row: Vec<String> = group.attributes.values().map(output::value_text).collect();
    row.extend([&group.debit, &group.credit, &group.balance].map(String::clone));
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_totals(groups: &str) -> RemoteTotals {
        let text = format!(
            r#"{{"type": "t", "attributes": {{"n": 7}}, "at": "2024-03-01T00:00:00Z", "groups": [{groups}]}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn groups_come_before_their_sums() {
        let totals = parse_totals(
            r#"{"attributes": {"a": null, "b": "x y"}, "debit": "1", "credit": "0", "balance": "1"},
               {"attributes": {"a": 4, "b": true}, "debit": "0", "credit": "2.5", "balance": "-2.5"}"#,
        );
        let (header, rows) = totals_table(&totals);
        assert_eq!(header, ["a", "b", "debit", "credit", "balance"]);
        assert_eq!(rows, [["-", "x y", "1", "0", "1"], ["4", "true", "0", "2.5", "-2.5"]]);
        let filter = ("c".to_owned(), "z".to_owned());
        assert_eq!(
            totals_title("t", &totals, [&filter].into_iter()),
            "t n=7 c=z at 2024-03-01T00:00:00Z"
        );
    }

    #[test]
    fn without_groups_there_is_a_header() {
        let (header, rows) = totals_table(&parse_totals(""));
        assert_eq!((header.len(), rows.len()), (3, 0));
    }
}
