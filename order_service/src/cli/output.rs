//! How results are printed: tables for people, JSON for programs.

use chrono::{DateTime, SecondsFormat};
use clap::ArgMatches;
use comfy_table::{ContentArrangement, Table, presets};
use indicatif::{ProgressBar, ProgressStyle};
use proto::order_service::Order;
use serde_json::{Value, json};

use crate::orders::State;

pub(super) fn is_json(args: &ArgMatches) -> bool {
    args.get_one::<String>("output").is_some_and(|format| format == "json")
}

/// Prints one line; a closed pipe (such as `| head`) is not an error worth a word.
pub(super) fn line(text: impl std::fmt::Display) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// A progress bar over events; hidden where nobody looks.
pub(super) fn bar(what: &str) -> ProgressBar {
    use std::io::IsTerminal as _;
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{prefix} {bar:40} {pos}/{len} events, {per_sec}, {eta} left");
    let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(0).with_style(style).with_prefix(what.to_owned())
}

pub(super) fn advance(bar: &ProgressBar, done: i64, all: i64) {
    bar.set_length(all.unsigned_abs());
    bar.set_position(done.unsigned_abs());
}

/// Prints lines until nobody takes them any more.
pub(super) fn try_lines(lines: impl IntoIterator<Item = String>) -> std::io::Result<()> {
    use std::io::Write as _;
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    for line in lines {
        writeln!(out, "{line}")?;
    }
    out.flush()
}

pub(super) fn table<const N: usize>(header: [&str; N], rows: impl IntoIterator<Item = [String; N]>) {
    grid(header.map(str::to_owned).into(), rows.into_iter().map(Vec::from).collect());
}

/// A table whose columns are known only when it is made.
pub(super) fn grid(header: Vec<String>, rows: Vec<Vec<String>>) {
    line(grid_text(header, rows));
}

pub(super) fn grid_text(header: Vec<String>, rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(header);
    for row in rows {
        table.add_row(row);
    }
    table.to_string()
}

/// A value in a table: texts as they are, a dash for what is not there.
pub(super) fn value(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

pub(super) fn state_name(number: i32) -> &'static str {
    State::from_number(number).map_or("unknown", State::name)
}

/// RFC 3339, in UTC.
pub(super) fn time(at: Option<&prost_types::Timestamp>) -> Option<String> {
    let at = at?;
    let at = DateTime::from_timestamp(at.seconds, u32::try_from(at.nanos).ok()?)?;
    Some(at.to_rfc3339_opts(SecondsFormat::Micros, true))
}

/// An id of an order's data, blank while it is not known.
pub(super) fn id_or_blank(id: i32) -> String {
    if id == 0 { String::new() } else { id.to_string() }
}

pub(super) fn order_json(order: &Order) -> Value {
    let change = |change: &proto::order_service::StateChange| json!({"state": state_name(change.state), "at": time(change.at.as_ref())});
    json!({
        "order_id": order.order_id,
        "product_id": order.product_id,
        "storage_id": order.storage_id,
        "pickup_point_id": order.pickup_point_id,
        "state": state_name(order.state),
        "attempts": order.attempts,
        "last_error": order.last_error,
        "history": order.history.iter().map(change).collect::<Vec<_>>(),
        "next_attempt_at": time(order.next_attempt_at.as_ref()),
    })
}

pub(super) fn orders_table(orders: &[Order]) {
    let row = |order: &Order| {
        [
            order.order_id.to_string(),
            order.product_id.to_string(),
            id_or_blank(order.storage_id),
            id_or_blank(order.pickup_point_id),
            state_name(order.state).to_owned(),
            order.attempts.to_string(),
            time(order.next_attempt_at.as_ref()).unwrap_or_default(),
            order.last_error.clone(),
        ]
    };
    let header =
        ["order", "product", "storage", "pickup point", "state", "attempts", "next attempt", "last error"];
    table(header, orders.iter().map(row));
}
