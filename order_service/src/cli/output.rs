//! Output of commands: text for people, JSON for programs. External text is escaped before it
//! reaches a terminal.

use std::fmt::Display;
use std::io::ErrorKind;
use std::sync::OnceLock;

use chrono::{DateTime, SecondsFormat};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use proto::order_service::{Order, StateChange};
use serde_json::{Value, json};
use terminal::{TableBorders, escape_control_chars, shorten_text};

use super::CommandFailure;
use super::definition::named_value_parser;
use order_service::orders::db::OrderState;

/// Width in columns of one-screen output without a terminal.
const DEFAULT_SCREEN_WIDTH: usize = 80;

/// Maximum characters of an error in a list; JSON and `orders get` have all of it.
const MAX_LISTED_ERROR_CHARS: usize = 160;

/// Format of a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OutputFormat {
    Text,
    Json,
}

impl OutputFormat {
    const ALL: [Self; 2] = [Self::Text, Self::Json];

    fn flag_value(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
        }
    }
}

/// Flag `--output`, shared by commands that print a result.
#[derive(Debug, Clone, Copy, Args)]
#[group(skip)]
pub(super) struct OutputArgs {
    #[arg(
        long = "output",
        value_name = "FORMAT",
        default_value = "text",
        value_parser = named_value_parser(OutputFormat::ALL, OutputFormat::flag_value),
        hide_possible_values = true,
        help = "How the result is printed: text or json"
    )]
    format: OutputFormat,
}

impl OutputArgs {
    pub(super) fn is_json(self) -> bool {
        self.format == OutputFormat::Json
    }
}

/// First write error of standard output.
static PRINT_ERROR: OnceLock<String> = OnceLock::new();

/// A closed pipe (`| head`) is no error; a full disk is.
fn record_print_error(printed: std::io::Result<()>) {
    if let Err(error) = printed
        && error.kind() != ErrorKind::BrokenPipe
    {
        let _ = PRINT_ERROR.set(error.to_string());
    }
}

/// Fails if any earlier write to standard output failed.
pub(super) fn check_printed() -> Result<(), CommandFailure> {
    PRINT_ERROR
        .get()
        .map_or(Ok(()), |error| Err(CommandFailure::Failed(format!("standard output: {error}"))))
}

fn print_text(table: &str) {
    record_print_error(terminal::print_lines(table));
}

/// Prints a JSON document for programs.
pub(super) fn print_json(value: impl Display) {
    record_print_error(terminal::print_json(value));
}

/// Prints one escaped line.
pub(super) fn print_line(text: impl Display) {
    record_print_error(terminal::print_line(text));
}

/// Prints a text of several lines; external text in it must already be escaped.
pub(super) fn print_lines(text: impl Display) {
    record_print_error(terminal::print_lines(text));
}

/// Prints a warning, remark or error as one line on standard error.
pub(super) fn print_remark(text: impl Display) {
    terminal::print_remark(text);
}

/// Progress bar over events; hidden unless standard error is a terminal.
pub(super) fn events_progress_bar(what: &str) -> ProgressBar {
    use std::io::IsTerminal as _;
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style =
        ProgressStyle::with_template("{prefix} {bar:40} {pos}/{len} events, {per_sec}, {eta} left");
    let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(0).with_style(style).with_prefix(escape_control_chars(what).into_owned())
}

pub(super) fn advance_bar(bar: &ProgressBar, done: i64, all: i64) {
    bar.set_length(all.unsigned_abs());
    bar.set_position(done.unsigned_abs());
}

pub(super) fn print_table<const N: usize>(
    header: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) {
    print_grid(header.map(str::to_owned).into(), rows.into_iter().map(Vec::from).collect());
}

/// Prints a table with columns known only at run time.
pub(super) fn print_grid(header: Vec<String>, rows: Vec<Vec<String>>) {
    print_text(&render_grid(header, rows));
}

pub(super) fn render_grid(header: Vec<String>, rows: Vec<Vec<String>>) -> String {
    terminal::render_table(
        TableBorders::Lines,
        &header,
        &rows,
        terminal::terminal_width(terminal::UNLIMITED_WIDTH),
    )
}

/// Prints a table without borders, for output that must fit on one screen.
pub(super) fn print_compact_table<const N: usize>(
    header: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) {
    let rows: Vec<Vec<String>> = rows.into_iter().map(Vec::from).collect();
    let width = terminal::terminal_width(DEFAULT_SCREEN_WIDTH);
    print_text(&terminal::render_table(
        TableBorders::Spaces,
        &header.map(str::to_owned),
        &rows,
        width,
    ));
}

/// A JSON value in a table: strings without quotes, a dash for null.
pub(super) fn value_text(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

pub(super) fn state_name(number: i32) -> &'static str {
    OrderState::from_number(number).map_or("unknown", OrderState::name)
}

/// RFC 3339 in UTC, with microseconds.
pub(super) fn timestamp_text(at: Option<&prost_types::Timestamp>) -> Option<String> {
    to_datetime(at).map(format_micros)
}

/// RFC 3339 in UTC, with microseconds.
pub(super) fn format_micros(at: DateTime<chrono::Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Micros, true)
}

fn to_datetime(at: Option<&prost_types::Timestamp>) -> Option<DateTime<chrono::Utc>> {
    let at = at?;
    DateTime::from_timestamp(at.seconds, u32::try_from(at.nanos).ok()?)
}

/// Id of an order's data; blank for 0, which means not yet assigned.
pub(super) fn id_or_blank(id: i32) -> String {
    if id == 0 { String::new() } else { id.to_string() }
}

pub(super) fn order_json(order: &Order) -> Value {
    json!({
        "order_id": order.order_id,
        "product_id": order.product_id,
        "storage_id": order.storage_id,
        "pickup_point_id": order.pickup_point_id,
        "state": state_name(order.state),
        "attempts": order.attempts,
        "last_error": order.last_error,
        "history": order.history.iter().map(state_change_json).collect::<Vec<Value>>(),
        "next_attempt_at": timestamp_text(order.next_attempt_at.as_ref()),
    })
}

fn state_change_json(change: &StateChange) -> Value {
    json!({"state": state_name(change.state), "at": timestamp_text(change.at.as_ref())})
}

/// Prints a table of orders that fits on 80 columns: the next attempt and the last error are rows
/// below the order's state.
pub(super) fn print_orders_table(orders: &[Order]) {
    let header = ["order", "product", "storage", "pickup", "attempts", "state"].map(str::to_owned);
    let rows: Vec<_> = orders.iter().flat_map(order_rows).collect();
    print_text(&terminal::render_table(
        TableBorders::Lines,
        &header,
        &rows,
        terminal::terminal_width(DEFAULT_SCREEN_WIDTH),
    ));
}

fn order_rows(order: &Order) -> Vec<Vec<String>> {
    let mut rows = vec![vec![
        order.order_id.to_string(),
        order.product_id.to_string(),
        id_or_blank(order.storage_id),
        id_or_blank(order.pickup_point_id),
        order.attempts.to_string(),
        state_name(order.state).to_owned(),
    ]];
    if let Some(at) = to_datetime(order.next_attempt_at.as_ref()) {
        rows.push(row_below_state(format!(
            "next {}",
            at.to_rfc3339_opts(SecondsFormat::Secs, true)
        )));
    }
    let error = shorten_text(&order.last_error, MAX_LISTED_ERROR_CHARS);
    if !error.is_empty() {
        rows.push(row_below_state(error.into_owned()));
    }
    rows
}

/// A row with only the last column.
fn row_below_state(text: String) -> Vec<String> {
    let mut row = vec![String::new(); 5];
    row.push(text);
    row
}

/// Prints all fields of one order, except its history.
pub(super) fn print_order_table(order: &Order) {
    let rows = [
        ["product", &order.product_id.to_string()],
        ["storage", &id_or_blank(order.storage_id)],
        ["pickup point", &id_or_blank(order.pickup_point_id)],
        ["state", state_name(order.state)],
        ["attempts", &order.attempts.to_string()],
        ["next attempt", &timestamp_text(order.next_attempt_at.as_ref()).unwrap_or_default()],
        ["last error", &order.last_error],
    ];
    let rows = rows.map(|row| row.map(str::to_owned));
    print_table(["order", &order.order_id.to_string()], rows);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample_order(state: OrderState, last_error: &str) -> Order {
        let next_attempt_at = (state != OrderState::Failed)
            .then_some(prost_types::Timestamp { seconds: 0, nanos: 5 });
        Order {
            order_id: i32::MIN,
            product_id: i32::MAX,
            state: state as i32,
            attempts: 12,
            last_error: last_error.to_owned(),
            next_attempt_at,
            ..Order::default()
        }
    }

    #[test]
    fn orders_fit_on_eighty_columns_whatever_their_errors_say() {
        let header: Vec<String> = ["order", "product", "storage", "pickup", "attempts", "state"]
            .map(str::to_owned)
            .into();
        let error = format!("\u{1b}[31mno callback {}", "x".repeat(1000));
        let orders = [
            sample_order(OrderState::FinishedExternalInteraction, &error),
            sample_order(OrderState::Failed, "no"),
        ];
        let rows: Vec<Vec<String>> = orders.iter().flat_map(order_rows).collect();
        let text = terminal::render_table(TableBorders::Lines, &header, &rows, 80);
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        assert!(!text.contains('\u{1b}') && text.lines().count() < 30, "{text}");
        assert_eq!(rows[1][5], "next 1970-01-01T00:00:00Z");
        assert_eq!(rows.len(), 5);
    }
}
