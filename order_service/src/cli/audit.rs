//! `audit`: the audit trail, from the database of the settings or from a running service.

use audit::AuditRow;
use clap::{Args, value_parser};
use order_service::audit_http::parse_audit_filter;
use serde::Deserialize;
use serde_json::{Value, json};
use settings::ResolvedSettings;

use super::command_token::command_token;
use super::definition::{all_examples, first_example, setting_args};
use super::http_client::ServiceHttpClient;
use super::output::OutputArgs;
use super::{CommandFailure, output};
use order_service::serve::database::{self, DatabaseAccess};
use order_service::settings::DatabaseSettings;

/// Maximum characters of a difference in the table; JSON has all of it.
const MAX_SHOWN_DIFFERENCE_CHARS: usize = 160;

const EXAMPLES: &str = "order_service audit --object action_config/notify-robot\n         \
                        order_service audit --actor cli:root --from 2026-11-30T00:00:00Z --output json";

/// Arguments of the command.
#[derive(Debug, Args)]
#[command(
    about = "Shows who changed which configuration, and who did what",
    args = setting_args(&["database-url", "data-dir", "token-file", "tls-ca", "config"]),
    after_help = first_example(EXAMPLES),
    after_long_help = all_examples(EXAMPLES)
)]
#[group(skip)]
pub(super) struct AuditArgs {
    #[arg(long, value_name = "NAME", help = "Only of this client, or of cli:USER")]
    actor: Option<String>,
    #[arg(long, value_name = "ACTION", help = "Only this action, such as order.retry")]
    action: Option<String>,
    #[arg(long, value_name = "KIND/NAME", help = "Only on this object, such as task/17")]
    object: Option<String>,
    #[arg(long, value_name = "TIME", help = "Not older than this (RFC 3339)")]
    from: Option<String>,
    #[arg(long, value_name = "TIME", help = "Older than this (RFC 3339)")]
    to: Option<String>,
    #[arg(long, value_name = "ID", help = "Only entries with a smaller id: the next page")]
    before: Option<i64>,
    #[arg(
        long,
        value_name = "COUNT",
        default_value = "100",
        value_parser = value_parser!(i64).range(1..=audit::MAX_ENTRIES_PER_PAGE),
        help = "At most so many"
    )]
    limit: i64,
    #[arg(
        long,
        value_name = "URL",
        help = "The running service, over its HTTP port [default: the database of the settings]"
    )]
    url: Option<String>,
    #[command(flatten)]
    output: OutputArgs,
}

impl AuditArgs {
    /// The parameters of the API's listing.
    fn to_parameters(&self) -> Vec<(String, String)> {
        let before = self.before.map(|before| before.to_string());
        let texts = [
            ("actor", &self.actor),
            ("action", &self.action),
            ("object", &self.object),
            ("from", &self.from),
            ("to", &self.to),
            ("before", &before),
        ];
        let mut parameters = vec![("limit".to_owned(), self.limit.to_string())];
        for (name, text) in texts {
            parameters.extend(text.clone().map(|text| (name.to_owned(), text)));
        }
        parameters
    }
}

#[derive(Deserialize)]
struct AuditPage {
    result: Vec<Value>,
}

pub(super) async fn run_audit_command(
    args: &AuditArgs,
    resolved: &ResolvedSettings,
) -> Result<(), CommandFailure> {
    let entries = match &args.url {
        Some(url) => fetch_entries(url, args, resolved).await?,
        None => read_entries(args, resolved).await?,
    };
    if args.output.is_json() {
        output::print_json(json!({"result": entries}));
        return Ok(());
    }
    let header = ["id", "time", "actor", "origin", "action", "object", "difference"];
    output::print_table(header, entries.iter().map(entry_cells));
    if entries.len() as i64 == args.limit
        && let Some(last) = entries.last()
    {
        output::print_remark(format!("older entries: --before {}", last["id"]));
    }
    Ok(())
}

async fn fetch_entries(
    url: &str,
    args: &AuditArgs,
    resolved: &ResolvedSettings,
) -> Result<Vec<Value>, CommandFailure> {
    let service = ServiceHttpClient::from_url(url, resolved)?.with_token(command_token(resolved)?);
    let parameters = args.to_parameters();
    let query: Vec<(&str, &str)> =
        parameters.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    let answer = service.get(&["api", "v1", "audit"], &query).await?;
    let page: AuditPage = serde_json::from_str(&answer).map_err(|error| {
        service.answer_failure(format!("the answer is not understood: {error}"))
    })?;
    Ok(page.result)
}

async fn read_entries(
    args: &AuditArgs,
    resolved: &ResolvedSettings,
) -> Result<Vec<Value>, CommandFailure> {
    let filter = parse_audit_filter(args.to_parameters())
        .map_err(|error| CommandFailure::Usage(format!("--{}", error.message)))?;
    let settings = DatabaseSettings::new(resolved)?;
    let database = database::open_control_database(&settings, DatabaseAccess::Existing).await?;
    let listed = audit::list_entries(&database.pool, filter).await;
    database.close().await;
    let listed = listed.map_err(|error| CommandFailure::Failed(error.to_string()))?;
    Ok(listed.iter().map(AuditRow::to_json).collect())
}

fn entry_cells(entry: &Value) -> [String; 7] {
    let text = |name: &str| output::value_text(&entry[name]);
    let difference = entry["difference"].to_string();
    let shown = terminal::shorten_text(&difference, MAX_SHOWN_DIFFERENCE_CHARS);
    [
        text("id"),
        text("at"),
        text("actor"),
        text("origin"),
        text("action"),
        text("object"),
        shown.to_string(),
    ]
}
