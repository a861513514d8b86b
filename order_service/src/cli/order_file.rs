//! Order files: CSV (RFC 4180) or JSON Lines. The whole file is parsed and validated before any
//! order is processed.

use std::collections::HashMap;
use std::io::Read as _;

use serde::Deserialize;
use terminal::shorten_text;

/// Maximum characters of a line or field in an error.
const MAX_SHOWN_CHARS: usize = 60;

/// One order of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OrderFileEntry {
    /// Line number in the file, from 1.
    pub(super) line: u64,
    pub(super) order_id: i32,
    /// `None` if the file has only order ids.
    pub(super) product_id: Option<i32>,
}

/// Columns that every record must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OrderFileColumns {
    /// Order id and product id.
    OrderAndProduct,
    /// Order id; a product id is optional.
    Order,
}

/// Reads the orders of a file (`-`: standard input). Errors name the file and the line; a duplicate
/// id is an error.
pub(super) fn read_order_file(
    file: &str,
    columns: OrderFileColumns,
) -> Result<Vec<OrderFileEntry>, String> {
    let mut bytes = Vec::new();
    let read = match file {
        "-" => std::io::stdin().read_to_end(&mut bytes),
        path => std::fs::File::open(path).and_then(|mut file| file.read_to_end(&mut bytes)),
    };
    read.map_err(|error| format!("{file}: {error}"))?;
    let orders =
        parse_orders(&bytes, columns).map_err(|OrderFileError { line, what }| match line {
            Some(line) => format!("{file}:{line}: {what}"),
            None => format!("{file}: {what}"),
        })?;
    if orders.is_empty() {
        return Err(format!("{file}: there is no order in it"));
    }
    Ok(orders)
}

/// A problem and its line number.
#[derive(Debug, PartialEq, Eq)]
struct OrderFileError {
    line: Option<u64>,
    what: String,
}

fn line_error(line: u64, what: impl Into<String>) -> OrderFileError {
    OrderFileError { line: Some(line), what: what.into() }
}

fn parse_orders(
    bytes: &[u8],
    columns: OrderFileColumns,
) -> Result<Vec<OrderFileEntry>, OrderFileError> {
    if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
        return Err(OrderFileError { line: None, what: "is UTF-16; save it as UTF-8".to_owned() });
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let line = count_newlines(&bytes[..error.valid_up_to()]) + 1;
        line_error(line, "is not UTF-8")
    })?;
    let orders = if text.trim_start().starts_with('{') {
        parse_json_lines(text, columns)
    } else {
        parse_csv_orders(text, columns)
    }?;
    check_unique_ids(&orders)?;
    Ok(orders)
}

fn count_newlines(bytes: &[u8]) -> u64 {
    bytes.iter().filter(|byte| **byte == b'\n').count() as u64
}

/// The service refuses duplicate ids within one request. Checking the whole file makes the result
/// independent of how it is split into requests.
fn check_unique_ids(orders: &[OrderFileEntry]) -> Result<(), OrderFileError> {
    let mut seen: HashMap<i32, &OrderFileEntry> = HashMap::with_capacity(orders.len());
    for order in orders {
        let Some(first) = seen.insert(order.order_id, order) else { continue };
        let (id, line) = (order.order_id, first.line);
        let what = match (first.product_id, order.product_id) {
            (Some(first), Some(now)) if first != now => {
                format!("order_id: order {id} has product {now} here, and {first} on line {line}")
            }
            _ => format!("order_id: order {id} is on line {line} already"),
        };
        return Err(line_error(order.line, what));
    }
    Ok(())
}

/// Column indexes of the ids in a CSV file.
struct OrderFileLayout {
    order: usize,
    product: Option<usize>,
    columns: usize,
}

impl OrderFileLayout {
    /// Layout of a file without a header.
    fn without_header(columns: OrderFileColumns, found: usize) -> Self {
        let both = columns == OrderFileColumns::OrderAndProduct || found == 2;
        Self { order: 0, product: both.then_some(1), columns: if both { 2 } else { 1 } }
    }

    /// Layout from a header; `None` if the record is not a header.
    fn from_header(header: &csv::StringRecord) -> Option<Self> {
        let order = find_column(header, "order_id")?;
        let product = find_column(header, "product_id");
        let column_count = 1 + usize::from(product.is_some());
        (header.len() == column_count).then_some(Self { order, product, columns: column_count })
    }
}

fn find_column(header: &csv::StringRecord, name: &str) -> Option<usize> {
    header.iter().position(|field| field.trim().eq_ignore_ascii_case(name))
}

fn parse_csv_orders(
    text: &str,
    columns: OrderFileColumns,
) -> Result<Vec<OrderFileEntry>, OrderFileError> {
    let mut reader =
        csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(text.as_bytes());
    let (mut orders, mut lines) = (Vec::new(), LineCounter::from_text(text));
    let mut layout: Option<OrderFileLayout> = None;
    let mut record = csv::StringRecord::new();
    loop {
        let begin = usize::try_from(reader.position().byte()).unwrap_or(usize::MAX);
        match reader.read_record(&mut record) {
            Ok(true) => {}
            Ok(false) => return Ok(orders),
            Err(error) => return Err(OrderFileError { line: None, what: error.to_string() }),
        }
        let line = lines.line_at(begin);
        if record.iter().all(|field| field.trim().is_empty()) {
            continue;
        }
        if layout.is_none()
            && let Some(header) = OrderFileLayout::from_header(&record)
        {
            if columns == OrderFileColumns::OrderAndProduct && header.product.is_none() {
                return Err(line_error(line, "product_id: there is no such column"));
            }
            layout = Some(header);
            continue;
        }
        let layout =
            layout.get_or_insert_with(|| OrderFileLayout::without_header(columns, record.len()));
        orders.push(parse_csv_record(&record, layout, line)?);
    }
}

fn parse_csv_record(
    record: &csv::StringRecord,
    layout: &OrderFileLayout,
    line: u64,
) -> Result<OrderFileEntry, OrderFileError> {
    if record.len() != layout.columns {
        let row = record.iter().collect::<Vec<_>>().join(",");
        let row = shorten_text(&row, MAX_SHOWN_CHARS);
        let wanted = if layout.columns == 2 { "ORDER,PRODUCT" } else { "one order" };
        return Err(line_error(line, format!("`{row}` is neither {wanted} nor a JSON object")));
    }
    let product_id = match layout.product {
        Some(column) => Some(parse_id(record.get(column).unwrap_or_default(), "product_id", line)?),
        None => None,
    };
    let order_id = parse_id(record.get(layout.order).unwrap_or_default(), "order_id", line)?;
    Ok(OrderFileEntry { line, order_id, product_id })
}

fn parse_id(text: &str, field: &str, line: u64) -> Result<i32, OrderFileError> {
    text.trim().parse().map_err(|_| {
        let shown = shorten_text(text.trim(), MAX_SHOWN_CHARS);
        line_error(
            line,
            format!("{field}: `{shown}` is not a whole number from {} to {}", i32::MIN, i32::MAX),
        )
    })
}

/// Line numbers of records, queried in ascending order. The reader's line numbers do not count the
/// blank lines before a record.
struct LineCounter<'t> {
    text: &'t [u8],
    counted_bytes: usize,
    line: u64,
}

impl<'t> LineCounter<'t> {
    fn from_text(text: &'t str) -> Self {
        Self { text: text.as_bytes(), counted_bytes: 0, line: 1 }
    }

    /// Line of the first record at or after this byte offset.
    fn line_at(&mut self, byte: usize) -> u64 {
        let blank =
            self.text.iter().skip(byte).take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        let begin = byte.saturating_add(blank).min(self.text.len());
        self.line += count_newlines(&self.text[self.counted_bytes.min(begin)..begin]);
        self.counted_bytes = begin;
        self.line
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OrderJsonLine {
    order_id: i32,
    product_id: Option<i32>,
}

fn parse_json_lines(
    text: &str,
    columns: OrderFileColumns,
) -> Result<Vec<OrderFileEntry>, OrderFileError> {
    let lines = (1..).zip(text.lines().map(str::trim)).filter(|(_, line)| !line.is_empty());
    lines.map(|(line, text)| parse_json_line(text, line, columns)).collect()
}

fn parse_json_line(
    text: &str,
    line: u64,
    columns: OrderFileColumns,
) -> Result<OrderFileEntry, OrderFileError> {
    let parsed = serde_path_to_error::deserialize(&mut serde_json::Deserializer::from_str(text));
    let parsed: OrderJsonLine = parsed.map_err(|error| {
        let (field, reason) = (error.path().to_string(), error.inner().to_string());
        let field =
            if matches!(field.as_str(), "." | "?") { String::new() } else { format!("{field}: ") };
        // Every JSON document is one line of the file, so its own line number is useless.
        let reason = reason.replace(" at line 1 column ", " at its column ");
        line_error(line, format!("{field}{reason}"))
    })?;
    if serde_json::from_str::<serde::de::IgnoredAny>(text).is_err() {
        return Err(line_error(line, "there is something after the JSON object"));
    }
    if columns == OrderFileColumns::OrderAndProduct && parsed.product_id.is_none() {
        return Err(line_error(line, "product_id: is missing"));
    }
    Ok(OrderFileEntry { line, order_id: parsed.order_id, product_id: parsed.product_id })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_ids(text: &str) -> Vec<(u64, i32, Option<i32>)> {
        let orders = parse_orders(text.as_bytes(), OrderFileColumns::OrderAndProduct).unwrap();
        orders.iter().map(|order| (order.line, order.order_id, order.product_id)).collect()
    }

    fn parse_error(text: impl AsRef<[u8]>) -> (Option<u64>, String) {
        let OrderFileError { line, what } =
            parse_orders(text.as_ref(), OrderFileColumns::OrderAndProduct).unwrap_err();
        (line, what)
    }

    #[test]
    fn reads_what_spreadsheets_and_programs_write() {
        let both = [(2, 17, Some(4)), (3, -3, Some(9))];
        for text in [
            "order_id,product_id\n17,4\n-3,9\n",
            "\u{feff}order_id,product_id\r\n17,4\r\n-3,9",
            "\"Order_ID\",\"product_id\"\r\n\"17\",\"4\"\r\n\"-3\",9\r\n",
            "\n17,4\n -3 , 9 \n",
            "product_id, order_id\n4,17\n9,-3\n",
            "\n{\"order_id\": 17, \"product_id\": 4}\r\n{\"product_id\":9,\"order_id\":-3}\n",
        ] {
            assert_eq!(parse_ids(text), both, "{text:?}");
        }
        // Blank lines, also before the header, and a field of several lines.
        let text = "\r\n  \norder_id,product_id\n\n17,4\n\n\n\"\n-3\",9\n ,\n5,6";
        assert_eq!(parse_ids(text), [(5, 17, Some(4)), (8, -3, Some(9)), (11, 5, Some(6))]);
        assert_eq!(parse_ids(""), []);
        assert_eq!(parse_ids("order_id,product_id\n"), []);
    }

    #[test]
    fn ids_alone_where_no_product_matters() {
        let of = |text: &str| {
            parse_orders(text.as_bytes(), OrderFileColumns::Order)
                .unwrap()
                .iter()
                .map(|order| order.order_id)
                .collect::<Vec<_>>()
        };
        for text in [
            "17\n-3\n",
            "order_id\n17\n-3",
            "17,4\n-3,9",
            "{\"order_id\":17}\n{\"order_id\":-3,\"product_id\":1}",
        ] {
            assert_eq!(of(text), [17, -3], "{text:?}");
        }
        assert_eq!(
            parse_error("order_id\n17"),
            (Some(1), "product_id: there is no such column".to_owned())
        );
    }

    #[test]
    fn what_is_wrong_is_told_with_line_and_field() {
        let of_range = "is not a whole number from -2147483648 to 2147483647";
        for (text, line, what) in [
            ("1,2\n3;4", 2, "`3;4` is neither ORDER,PRODUCT nor a JSON object".to_owned()),
            ("1,2\n\n3,4,5", 3, "`3,4,5` is neither".to_owned()),
            ("1,99999999999", 1, format!("product_id: `99999999999` {of_range}")),
            ("2147483648,1", 1, format!("order_id: `2147483648` {of_range}")),
            ("1,2\n\u{1b}[2J\0,7", 2, format!("order_id: `\u{1b}[2J\0` {of_range}")),
            ("1,2\n3,4\n5,6\n3,4", 4, "order_id: order 3 is on line 2 already".to_owned()),
            (
                "1,2\n3,4\n3,5",
                3,
                "order_id: order 3 has product 5 here, and 4 on line 2".to_owned(),
            ),
            ("{\"order_id\": 1, \"product\": 2}", 1, "product: unknown field `product`".to_owned()),
            (
                "{\"order_id\": 99999999999, \"product_id\": 2}",
                1,
                "order_id: invalid value".to_owned(),
            ),
            (
                "{\"order_id\":1,\"product_id\":2}\n{\"order_id\":2}",
                2,
                "product_id: is missing".to_owned(),
            ),
            ("{\"order_id\":1,\"product_id\":2} x", 1, "there is something after".to_owned()),
            ("{\"order_id\":1,", 1, "EOF while parsing".to_owned()),
        ] {
            let (at, said) = parse_error(text);
            assert_eq!(at, Some(line), "{text:?}: {said}");
            assert!(said.starts_with(&what) && !said.contains("line 1 column"), "{text:?}: {said}");
        }
        let far: String = (0..5000).map(|n| format!("{n},1\n")).collect();
        assert_eq!(parse_error(far + "7,1").0, Some(5001));
        assert_eq!(parse_error(b"1,2\n3,\xff"), (Some(2), "is not UTF-8".to_owned()));
        assert_eq!(parse_error(b"\xff\xfe1\0"), (None, "is UTF-16; save it as UTF-8".to_owned()));
    }
}
