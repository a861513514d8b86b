//! `process`: sends orders to a running service and shows what became of them.

use std::cell::Cell;
use std::collections::HashSet;
use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use clap::ArgMatches;
use futures::StreamExt as _;
use indicatif::{ProgressBar, ProgressStyle};
use proto::order_service::ProcessOrdersRequest;
use proto::order_service::process_orders_request::OrderRequest;
use proto::order_service::process_orders_response::OrderResponse;
use serde_json::json;
use settings::Resolved;
use tonic::{Code, Request, Status};

use super::order_file::{self, Columns, Named};
use super::{Failure, client, output};

/// Orders in one request.
const TOGETHER: usize = 1000;
/// Requests at a time: orders that wait for their data wait together.
const SIDE_BY_SIDE: usize = 16;
/// Before what the service had no room for is sent again; each time twice as long.
const FIRST_WAIT: Duration = Duration::from_millis(200);
/// But not longer.
const LONGEST_WAIT: Duration = Duration::from_secs(2);

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
    let sending = Sending::new(client, timeout);
    let requests = orders.chunks(TOGETHER).map(async |chunk| {
        let answered = sending.send(chunk).await;
        progress.inc(chunk.len() as u64);
        answered
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

/// What the requests know of each other.
struct Sending {
    client: client::Client,
    timeout: Duration,
    /// Once one has failed, those under way are waited for, and no other is begun.
    has_failed: Cell<bool>,
    under_way: Cell<usize>,
    last_answer: Cell<Instant>,
}

impl Sending {
    fn new(client: client::Client, timeout: Duration) -> Self {
        let (has_failed, under_way) = (Cell::new(false), Cell::new(0));
        Self { client, timeout, has_failed, under_way, last_answer: Cell::new(Instant::now()) }
    }

    /// Orders that the service has no room for are sent again.
    async fn send(&self, orders: &[OrderRequest]) -> Result<Vec<OrderResponse>, Status> {
        let mut wait = FIRST_WAIT;
        while !self.has_failed.get() {
            match self.ask(orders).await {
                Ok(processed) => return Ok(processed),
                Err(status) if status.code() == Code::ResourceExhausted && self.may_wait(wait) => {
                    tokio::time::sleep(wait).await;
                    wait = LONGEST_WAIT.min(wait * 2);
                }
                Err(status) => {
                    self.has_failed.set(true);
                    return Err(status);
                }
            }
        }
        Ok(Vec::new())
    }

    async fn ask(&self, orders: &[OrderRequest]) -> Result<Vec<OrderResponse>, Status> {
        let mut request = Request::new(ProcessOrdersRequest { orders: orders.to_vec() });
        request.set_timeout(self.timeout);
        self.under_way.set(self.under_way.get() + 1);
        let answered = self.client.clone().process_orders(request).await;
        self.under_way.set(self.under_way.get().saturating_sub(1));
        let processed = answered?.into_inner().processed_orders;
        self.last_answer.set(Instant::now());
        Ok(processed)
    }

    /// A refusal comes at once: what is under way for longer has taken the room, and makes room when it ends.
    fn may_wait(&self, wait: Duration) -> bool {
        self.under_way.get() > 0 || self.last_answer.get().elapsed() + wait < self.timeout
    }
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
