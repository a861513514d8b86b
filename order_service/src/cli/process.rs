//! `process`: sends orders to a running service and shows what became of them.

use std::io::{IsTerminal as _, Read as _};
use std::time::Duration;

use clap::ArgMatches;
use indicatif::{ProgressBar, ProgressStyle};
use proto::order_service::ProcessOrdersRequest;
use proto::order_service::process_orders_request::OrderRequest;
use proto::order_service::process_orders_response::OrderResponse;
use serde::Deserialize;
use serde_json::json;
use settings::Resolved;
use tonic::Request;

use super::{Failure, client, output};

/// Orders in one request.
const TOGETHER: usize = 1000;

pub(super) async fn run(args: &ArgMatches, resolved: &Resolved) -> Result<(), Failure> {
    let orders = orders(args)?;
    let timeout = args.get_one::<String>("timeout").map(String::as_str).unwrap_or_default();
    let timeout = humantime::parse_duration(timeout)
        .map_err(|error| Failure::Usage(format!("--timeout: `{timeout}`: {error} (such as 30s)")))?;
    let (processed, failure) = send(args, resolved, orders, timeout).await?;
    if let Some(failure) = failure {
        if !processed.is_empty() {
            output::remark(format!("{} orders were sent before the failure", processed.len()));
            show(args, &processed);
        }
        return Err(failure);
    }
    show(args, &processed);
    let open: Vec<i32> =
        processed.iter().filter(|order| !order.is_processed).map(|order| order.order_id).collect();
    match open.as_slice() {
        [] => Ok(()),
        [first, ..] => {
            let (open, all) = (open.len(), processed.len());
            output::remark(format!(
                "{open} of {all} orders are not processed; see: order_service orders get {first}"
            ));
            Err(Failure::Said)
        }
    }
}

fn show(args: &ArgMatches, processed: &[OrderResponse]) {
    if output::is_json(args) {
        let order = |order: &OrderResponse| {
            json!({"order_id": order.order_id, "product_id": order.product_id, "storage_id": order.storage_id,
                "pickup_point_id": order.pickup_point_id, "is_processed": order.is_processed})
        };
        output::json(json!({"processed_orders": processed.iter().map(order).collect::<Vec<_>>()}));
    } else {
        let row = |order: &OrderResponse| {
            let data = [order.storage_id, order.pickup_point_id].map(output::id_or_blank);
            let [storage, pickup] = data;
            let done = if order.is_processed { "yes" } else { "no" };
            [order.order_id.to_string(), order.product_id.to_string(), storage, pickup, done.to_owned()]
        };
        output::table(
            ["order", "product", "storage", "pickup point", "processed"],
            processed.iter().map(row),
        );
    }
}

async fn send(
    args: &ArgMatches,
    resolved: &Resolved,
    orders: Vec<OrderRequest>,
    timeout: Duration,
) -> Result<(Vec<OrderResponse>, Option<Failure>), Failure> {
    let (mut client, server) = client::connect(args, resolved)?;
    let progress = progress(orders.len() as u64);
    let mut processed = Vec::with_capacity(orders.len());
    for chunk in orders.chunks(TOGETHER) {
        let mut request = Request::new(ProcessOrdersRequest { orders: chunk.to_vec() });
        request.set_timeout(timeout);
        match client.process_orders(request).await {
            Ok(response) => processed.extend(response.into_inner().processed_orders),
            Err(status) => {
                progress.finish_and_clear();
                return Ok((processed, Some(client::failure(&server, &status))));
            }
        }
        progress.set_position(processed.len() as u64);
    }
    progress.finish_and_clear();
    Ok((processed, None))
}

fn progress(orders: u64) -> ProgressBar {
    // A request or two need no bar.
    if orders <= 2 * TOGETHER as u64 || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} orders, {per_sec}, {eta} left");
    ProgressBar::new(orders).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

fn orders(args: &ArgMatches) -> Result<Vec<OrderRequest>, Failure> {
    let single = args.get_many::<String>("order").into_iter().flatten().map(|text| {
        pair(text, ':')
            .ok_or_else(|| Failure::Usage(format!("--order: `{text}` is not ORDER:PRODUCT (such as 17:4)")))
    });
    let mut orders: Vec<OrderRequest> = single.collect::<Result<_, _>>()?;
    if let Some(file) = args.get_one::<String>("file") {
        orders.extend(read(file)?);
    }
    if orders.is_empty() {
        return Err(Failure::Usage("process: which orders? give --order or --file".to_owned()));
    }
    Ok(orders)
}

fn read(file: &str) -> Result<Vec<OrderRequest>, Failure> {
    let mut text = String::new();
    let read = match file {
        "-" => std::io::stdin().read_to_string(&mut text),
        path => std::fs::File::open(path).and_then(|mut file| file.read_to_string(&mut text)),
    };
    read.map_err(|error| Failure::Failed(format!("{file}: {error}")))?;
    parse(&text).map_err(|(line, reason)| Failure::Failed(format!("{file}:{line}: {reason}")))
}

/// The orders of a file, or the first bad line and what is wrong with it.
fn parse(text: &str) -> Result<Vec<OrderRequest>, (usize, String)> {
    let mut orders = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        let is_header = number == 0 && line.replace(' ', "").eq_ignore_ascii_case("order_id,product_id");
        if line.is_empty() || is_header {
            continue;
        }
        let order = if line.starts_with('{') {
            serde_json::from_str::<Line>(line).map(Line::order).map_err(|error| error.to_string())
        } else {
            pair(line, ',').ok_or_else(|| format!("`{line}` is neither ORDER,PRODUCT nor a JSON object"))
        };
        orders.push(order.map_err(|reason| (number + 1, reason))?);
    }
    Ok(orders)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    order_id: i32,
    product_id: i32,
}

impl Line {
    fn order(self) -> OrderRequest {
        OrderRequest { order_id: self.order_id, product_id: self.product_id }
    }
}

fn pair(text: &str, separator: char) -> Option<OrderRequest> {
    let (order_id, product_id) = text.split_once(separator)?;
    Some(OrderRequest {
        order_id: order_id.trim().parse().ok()?,
        product_id: product_id.trim().parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(text: &str) -> Vec<(i32, i32)> {
        parse(text).unwrap().iter().map(|order| (order.order_id, order.product_id)).collect()
    }

    #[test]
    fn reads_csv_and_json_lines() {
        assert_eq!(ids("order_id,product_id\n17,4\n\n -3 , 9 \n"), [(17, 4), (-3, 9)]);
        assert_eq!(
            ids("{\"order_id\": 17, \"product_id\": 4}\n{\"order_id\":-3,\"product_id\":9}"),
            [(17, 4), (-3, 9)]
        );
    }

    #[test]
    fn names_the_bad_line() {
        assert_eq!(parse("1,2\n3;4").unwrap_err().0, 2);
        assert_eq!(parse("{\"order_id\": 1, \"product\": 2}").unwrap_err().0, 1);
        assert_eq!(parse("1,99999999999").unwrap_err().0, 1);
    }
}
