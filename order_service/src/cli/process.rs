//! `process`: sends orders to a running service and shows what became of them.

use std::cell::Cell;
use std::collections::HashSet;
use std::io::IsTerminal as _;
use std::time::Duration;

use clap::ArgMatches;
use futures::StreamExt as _;
use indicatif::{ProgressBar, ProgressStyle};
use proto::order_service::ProcessOrdersRequest;
use proto::order_service::process_orders_request::OrderRequest;
use proto::order_service::process_orders_response::OrderResponse;
use serde_json::json;
use settings::Resolved;
use tonic::Request;

use super::order_file::{self, Columns, Named};
use super::{Failure, client, output};

/// Orders in one request.
const TOGETHER: usize = 1000;
/// Requests at a time: orders that wait for their data wait together.
const SIDE_BY_SIDE: usize = 16;

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
    let (client, server) = client::connect(args, resolved)?;
    let progress = progress(orders.len() as u64);
    // Once one has failed, those under way are waited for, and no other is begun.
    let has_failed = Cell::new(false);
    let requests = orders.chunks(TOGETHER).map(async |chunk| {
        if has_failed.get() {
            return Ok(Vec::new());
        }
        let mut request = Request::new(ProcessOrdersRequest { orders: chunk.to_vec() });
        request.set_timeout(timeout);
        let answered = client.clone().process_orders(request).await;
        has_failed.set(has_failed.get() || answered.is_err());
        progress.inc(chunk.len() as u64);
        answered.map(|response| response.into_inner().processed_orders)
    });
    let answers: Vec<_> = futures::stream::iter(requests).buffered(SIDE_BY_SIDE).collect().await;
    progress.finish_and_clear();
    let (mut processed, mut failure) = (Vec::with_capacity(orders.len()), None);
    for answer in answers {
        match answer {
            Ok(orders) => processed.extend(orders),
            Err(status) => failure = failure.or_else(|| Some(client::failure(&server, &status))),
        }
    }
    Ok((processed, failure))
}

fn progress(orders: u64) -> ProgressBar {
    // A request or two need no bar.
    if orders <= 2 * TOGETHER as u64 || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} orders, {per_sec}, {eta} left");
    ProgressBar::new(orders).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// All of them, checked, before any is sent.
fn orders(args: &ArgMatches) -> Result<Vec<OrderRequest>, Failure> {
    let single = args.get_many::<String>("order").into_iter().flatten().map(|text| {
        pair(text)
            .ok_or_else(|| Failure::Usage(format!("--order: `{text}` is not ORDER:PRODUCT (such as 17:4)")))
    });
    let mut orders: Vec<OrderRequest> = single.collect::<Result<_, _>>()?;
    let mut given = HashSet::new();
    if let Some(twice) = orders.iter().find(|order| !given.insert(order.order_id)) {
        return Err(Failure::Usage(format!("--order: order {} is given twice", twice.order_id)));
    }
    if let Some(file) = args.get_one::<String>("file") {
        let named = order_file::read(file, Columns::Both).map_err(Failure::Failed)?;
        if let Some(twice) = named.iter().find(|order| given.contains(&order.order_id)) {
            let (line, id) = (twice.line, twice.order_id);
            return Err(Failure::Failed(format!(
                "{file}:{line}: order_id: order {id} is given by --order, too"
            )));
        }
        let order = |Named { order_id, product_id, .. }| {
            product_id.map(|product_id| OrderRequest { order_id, product_id })
        };
        orders.extend(named.into_iter().filter_map(order));
    }
    if orders.is_empty() {
        return Err(Failure::Usage("process: which orders? give --order or --file".to_owned()));
    }
    Ok(orders)
}

fn pair(text: &str) -> Option<OrderRequest> {
    let (order_id, product_id) = text.split_once(':')?;
    Some(OrderRequest {
        order_id: order_id.trim().parse().ok()?,
        product_id: product_id.trim().parse().ok()?,
    })
}
