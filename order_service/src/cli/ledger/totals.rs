//! Commands `ledger balance` and `ledger turnovers`.

use clap::Args;
use serde::Deserialize;
use serde_json::{Map, Value};
use settings::ResolvedSettings;

use super::definition::{HTTP_CLIENT_SETTING_NAMES, all_examples, first_example, setting_args};
use super::{
    CommandFailure, OutputArgs, PeriodArgs, ServiceHttpClient, ServiceUrlArgs, key_values, output,
    parse_answer, query_parameters,
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

const BALANCE_EXAMPLES: &str = "order_service ledger balance storage_outflow storage_id=7\n         \
     order_service ledger balance storage_outflow storage_id=7 product_id=4 --at 2024-03-01T00:00:00Z\n         \
     order_service ledger balance storage_outflow storage_id=7 --group-by product_id,pickup_point_id";
const TURNOVERS_EXAMPLES: &str = "order_service ledger turnovers storage_outflow storage_id=7 --from 2024-02-01T00:00:00Z --to 2024-03-01T00:00:00Z";

/// Arguments that both commands begin with.
#[derive(Debug, Args)]
#[group(skip)]
struct AccountTotalsArgs {
    #[arg(value_name = "TYPE", help = "The account's type")]
    account_type: String,
    #[arg(
        value_name = "KEY=VALUE",
        num_args = 1,
        help = "Its key attributes, and auxiliary ones to filter by"
    )]
    attributes: Vec<String>,
    #[command(flatten)]
    url: ServiceUrlArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Flag `--group-by`.
#[derive(Debug, Args)]
#[group(skip)]
struct GroupByArg {
    #[arg(
        long,
        value_name = "ATTRIBUTE,…",
        help = "One line for each combination of these auxiliary attributes"
    )]
    group_by: Option<String>,
}

/// Arguments of `ledger balance`.
#[derive(Debug, Args)]
#[command(
    about = "The balance of an account, in all and by groups",
    args = setting_args(&HTTP_CLIENT_SETTING_NAMES),
    after_help = first_example(BALANCE_EXAMPLES),
    after_long_help = all_examples(BALANCE_EXAMPLES)
)]
#[group(skip)]
pub(in crate::cli) struct BalanceArgs {
    #[command(flatten)]
    account: AccountTotalsArgs,
    #[arg(long, value_name = "TIME", help = "Only events before this time [default: now]")]
    at: Option<String>,
    #[command(flatten)]
    group_by: GroupByArg,
}

/// Arguments of `ledger turnovers`.
#[derive(Debug, Args)]
#[command(
    about = "The turnovers of an account in a period, in all and by groups",
    args = setting_args(&HTTP_CLIENT_SETTING_NAMES),
    after_help = first_example(TURNOVERS_EXAMPLES),
    after_long_help = all_examples(TURNOVERS_EXAMPLES)
)]
#[group(skip)]
pub(in crate::cli) struct TurnoversArgs {
    #[command(flatten)]
    account: AccountTotalsArgs,
    #[command(flatten)]
    period: PeriodArgs,
    #[command(flatten)]
    group_by: GroupByArg,
}

pub(super) async fn print_balance(
    args: &BalanceArgs,
    resolved: &ResolvedSettings,
) -> Result<(), CommandFailure> {
    let options = [("at", &args.at), ("group_by", &args.group_by.group_by)];
    print_totals(&args.account, resolved, "balances", &options).await
}

pub(super) async fn print_turnovers(
    args: &TurnoversArgs,
    resolved: &ResolvedSettings,
) -> Result<(), CommandFailure> {
    let PeriodArgs { from, to } = &args.period;
    let options = [("from", from), ("to", to), ("group_by", &args.group_by.group_by)];
    print_totals(&args.account, resolved, "turnovers", &options).await
}

async fn print_totals(
    args: &AccountTotalsArgs,
    resolved: &ResolvedSettings,
    route: &str,
    options: &[(&str, &Option<String>)],
) -> Result<(), CommandFailure> {
    let attributes = key_values::parse_attributes(&args.attributes)?;
    let service = ServiceHttpClient::from_args(&args.url, resolved)?;
    let name = args.account_type.as_str();
    let answer =
        fetch_all_pages(&service, &["v1", route, name], &query_parameters(&attributes, options))
            .await?;
    if args.output.is_json() {
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
