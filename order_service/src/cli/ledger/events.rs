//! `ledger events`: fetches page by page and prints each page immediately.

use clap::{Args, value_parser};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use settings::ResolvedSettings;

use super::definition::{HTTP_CLIENT_SETTING_NAMES, all_examples, first_example, setting_args};
use super::{
    CommandFailure, OutputArgs, PeriodArgs, ServiceHttpClient, ServiceUrlArgs, key_values, output,
    parse_answer, query_parameters,
};

const EXAMPLES: &str = "order_service ledger events storage_outflow storage_id=7 --limit 20\n         \
                        order_service ledger events storage_outflow storage_id=7 --output json > events.ndjson";

/// Arguments of the command.
#[derive(Debug, Args)]
#[command(
    about = "The events of an account, in the order of their time",
    args = setting_args(&HTTP_CLIENT_SETTING_NAMES),
    after_help = first_example(EXAMPLES),
    after_long_help = all_examples(EXAMPLES)
)]
#[group(skip)]
pub(in crate::cli) struct LedgerEventsArgs {
    #[arg(value_name = "TYPE", help = "The account's type")]
    account_type: String,
    #[arg(value_name = "KEY=VALUE", num_args = 1, help = "Its key attributes")]
    attributes: Vec<String>,
    #[command(flatten)]
    url: ServiceUrlArgs,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    period: PeriodArgs,
    #[arg(
        long,
        value_name = "COUNT",
        value_parser = value_parser!(u64).range(1..),
        help = "At most so many [default: all of them]"
    )]
    limit: Option<u64>,
}

/// Events per page, the API's `limit`.
const EVENTS_PAGE_SIZE: u64 = 1000;

#[derive(Deserialize)]
struct RemoteLedgerEventPage {
    events: Vec<Box<RawValue>>,
    next_page_token: Option<String>,
}

/// Fields of an event that a table shows.
#[derive(Deserialize)]
struct RemoteLedgerEvent {
    dt: String,
    event_id: String,
    attributes: Map<String, Value>,
    debit: Option<String>,
    credit: Option<String>,
    info: Option<Box<RawValue>>,
}

pub(super) async fn list_ledger_events(
    args: &LedgerEventsArgs,
    resolved: &ResolvedSettings,
) -> Result<(), CommandFailure> {
    let attributes = key_values::parse_attributes(&args.attributes)?;
    let service = ServiceHttpClient::from_args(&args.url, resolved)?;
    let (mut remaining, mut token) = (args.limit, None::<String>);
    let mut first = true;
    let options = [("from", &args.period.from), ("to", &args.period.to)];
    loop {
        let limit = remaining.unwrap_or(EVENTS_PAGE_SIZE).min(EVENTS_PAGE_SIZE);
        let (text, mut parameters) = (limit.to_string(), query_parameters(&attributes, &options));
        parameters.push(("limit", &text));
        parameters.extend(token.as_deref().map(|token| ("page_token", token)));
        let page: RemoteLedgerEventPage = parse_answer(
            &service,
            &service.get(&["v1", "events", &args.account_type], &parameters).await?,
        )?;
        let shown = match args.output.is_json() {
            true => {
                terminal::print_json_lines(page.events.iter().map(|event| to_one_line(event.get())))
            }
            // An account without events prints an empty table.
            false if first || !page.events.is_empty() => {
                terminal::print_lines(render_page_table(&service, &page)?)
            }
            false => Ok(()),
        };
        remaining = remaining.map(|left| left.saturating_sub(page.events.len() as u64));
        match page.next_page_token {
            // Standard output is closed (`| head`).
            _ if shown.is_err() => return Ok(()),
            Some(next) if remaining != Some(0) && token.as_ref() != Some(&next) => {
                token = Some(next)
            }
            _ => return Ok(()),
        }
        first = false;
    }
}

/// A raw line break in JSON is whitespace between tokens.
fn to_one_line(json: &str) -> String {
    json.replace(['\n', '\r'], " ")
}

fn render_page_table(
    service: &ServiceHttpClient,
    page: &RemoteLedgerEventPage,
) -> Result<String, CommandFailure> {
    let events: Vec<RemoteLedgerEvent> = page
        .events
        .iter()
        .map(|event| parse_answer(service, event.get()))
        .collect::<Result<_, _>>()?;
    let header = ["time", "event", "attributes", "debit", "credit", "info"].map(str::to_owned);
    Ok(output::render_grid(header.into(), events.into_iter().map(event_row).collect()))
}

fn event_row(event: RemoteLedgerEvent) -> Vec<String> {
    let attributes = event
        .attributes
        .iter()
        .map(|(name, value)| format!("{name}={}", output::value_text(value)));
    let attributes = attributes.collect::<Vec<_>>().join(" ");
    let info = event.info.map(|info| to_one_line(info.get())).unwrap_or_default();
    let [debit, credit] = [event.debit, event.credit].map(Option::unwrap_or_default);
    vec![event.dt, event.event_id, attributes, debit, credit, info]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_a_row_and_a_line() {
        let json = "{\"type\": \"t\", \"event_id\": \"e\", \"dt\": \"2024-02-29T12:00:00Z\",\n\"attributes\": {\"n\": 7, \"p\": null},
                     \"credit\": \"2.50\", \"info\": {\"a\": \"\\n\",\r\n\"b\": 12345678901234567890123}}";
        let event: RemoteLedgerEvent = serde_json::from_str(json).unwrap();
        let info = r#"{"a": "\n",  "b": 12345678901234567890123}"#;
        assert_eq!(event_row(event), ["2024-02-29T12:00:00Z", "e", "n=7 p=-", "", "2.50", info]);
        let line = to_one_line(json);
        assert!(
            !line.contains('\n') && line.ends_with("\"b\": 12345678901234567890123}}"),
            "{line}"
        );
    }
}
