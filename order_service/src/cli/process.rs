//! `process`: sends orders to a running service and prints the results.

use std::cell::Cell;
use std::collections::HashSet;
use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use clap::Args;
use futures::StreamExt as _;
use indicatif::{ProgressBar, ProgressStyle};
use proto::order_service::ProcessOrdersRequest;
use proto::order_service::process_orders_request::OrderRequest;
use proto::order_service::process_orders_response::OrderResponse;
use serde_json::{Value, json};
use settings::ResolvedSettings;
use tonic::{Code, Request, Status};

use super::definition::{GRPC_CLIENT_SETTING_NAMES, all_examples, first_example, setting_args};
use super::grpc_client::GrpcServerArgs;
use super::order_file::{self, OrderFileColumns, OrderFileEntry};
use super::output::OutputArgs;
use super::{CommandFailure, grpc_client, output};

/// Maximum orders in one request.
const MAX_ORDERS_PER_REQUEST: usize = 1000;
/// Concurrent requests: orders that wait for a callback wait in parallel.
const MAX_CONCURRENT_REQUESTS: usize = 16;
/// First backoff after `RESOURCE_EXHAUSTED`; doubles each time.
const MIN_RETRY_DELAY: Duration = Duration::from_millis(200);
/// Maximum backoff after `RESOURCE_EXHAUSTED`.
const MAX_RETRY_DELAY: Duration = Duration::from_secs(2);

const EXAMPLES: &str = "order_service process --order 17:4 --order -3:9\n         \
                        order_service process --file orders.csv --output json";

/// Arguments of the command.
#[derive(Debug, Args)]
#[command(
    about = "Sends orders to a running service and shows the results",
    args = setting_args(&GRPC_CLIENT_SETTING_NAMES),
    after_help = first_example(EXAMPLES),
    after_long_help = all_examples(EXAMPLES)
)]
#[group(skip)]
pub(super) struct ProcessArgs {
    #[arg(
        long = "order",
        value_name = "ORDER:PRODUCT",
        allow_hyphen_values = true,
        help = "An order and its product; may be repeated"
    )]
    orders: Vec<String>,
    #[arg(
        long,
        value_name = "FILE",
        allow_hyphen_values = true,
        help = "Orders from a file, or - for standard input: CSV (ORDER,PRODUCT; RFC 4180) or JSON objects, one a line"
    )]
    file: Option<String>,
    #[arg(
        long,
        value_name = "TIME",
        default_value = "30s",
        help = "How long each request may take, and how long to try again while the service has no room; 1000 orders go in one, 16 requests at a time"
    )]
    timeout: String,
    #[command(flatten)]
    server: GrpcServerArgs,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) async fn run_process_command(
    args: &ProcessArgs,
    resolved: &ResolvedSettings,
) -> Result<(), CommandFailure> {
    let orders = parse_order_args(args)?;
    let timeout = humantime::parse_duration(&args.timeout).map_err(|error| {
        CommandFailure::Usage(format!("--timeout: `{}`: {error} (such as 30s)", args.timeout))
    })?;
    let (processed, failure) = send_orders(&args.server, resolved, orders, timeout).await?;
    if let Some(failure) = failure {
        if !processed.is_empty() {
            output::print_remark(format!(
                "{} orders were sent before the failure",
                processed.len()
            ));
            print_processed_orders(args.output, &processed);
        }
        return Err(failure);
    }
    print_processed_orders(args.output, &processed);
    let unprocessed_ids: Vec<i32> =
        processed.iter().filter(|order| !order.is_processed).map(|order| order.order_id).collect();
    match unprocessed_ids.as_slice() {
        [] => Ok(()),
        [first, ..] => {
            let (open, all) = (unprocessed_ids.len(), processed.len());
            output::print_remark(format!(
                "{open} of {all} orders are not processed; see: order_service orders get {first}"
            ));
            Err(CommandFailure::AlreadyReported)
        }
    }
}

fn print_processed_orders(format: OutputArgs, processed: &[OrderResponse]) {
    if format.is_json() {
        let orders: Vec<Value> = processed.iter().map(processed_order_json).collect();
        output::print_json(json!({"processed_orders": orders}));
    } else {
        output::print_table(
            ["order", "product", "storage", "pickup point", "processed"],
            processed.iter().map(processed_order_row),
        );
    }
}

fn processed_order_json(order: &OrderResponse) -> Value {
    json!({"order_id": order.order_id, "product_id": order.product_id, "storage_id": order.storage_id,
        "pickup_point_id": order.pickup_point_id, "is_processed": order.is_processed})
}

fn processed_order_row(order: &OrderResponse) -> [String; 5] {
    [
        order.order_id.to_string(),
        order.product_id.to_string(),
        output::id_or_blank(order.storage_id),
        output::id_or_blank(order.pickup_point_id),
        if order.is_processed { "yes" } else { "no" }.to_owned(),
    ]
}

async fn send_orders(
    server: &GrpcServerArgs,
    resolved: &ResolvedSettings,
    orders: Vec<OrderRequest>,
    timeout: Duration,
) -> Result<(Vec<OrderResponse>, Option<CommandFailure>), CommandFailure> {
    let (client, server) = grpc_client::connect_grpc_client(server, resolved)?;
    let progress = orders_progress_bar(orders.len() as u64);
    let sender = OrderSender::new(client, timeout);
    let requests = orders.chunks(MAX_ORDERS_PER_REQUEST).map(async |chunk| {
        let answered = sender.send(chunk).await;
        progress.inc(chunk.len() as u64);
        answered
    });
    let answers: Vec<_> =
        futures::stream::iter(requests).buffered(MAX_CONCURRENT_REQUESTS).collect().await;
    progress.finish_and_clear();
    let (mut processed, mut failure) = (Vec::with_capacity(orders.len()), None);
    for answer in answers {
        match answer {
            Ok(orders) => processed.extend(orders),
            Err(status) => {
                failure = failure.or_else(|| Some(grpc_client::status_failure(&server, &status)))
            }
        }
    }
    Ok((processed, failure))
}

/// State shared by the concurrent requests.
struct OrderSender {
    client: grpc_client::OrderGrpcClient,
    timeout: Duration,
    /// Set by the first failure: requests in flight finish, no new one starts.
    has_failed: Cell<bool>,
    in_flight: Cell<usize>,
    last_answer: Cell<Instant>,
}

impl OrderSender {
    fn new(client: grpc_client::OrderGrpcClient, timeout: Duration) -> Self {
        let (has_failed, in_flight) = (Cell::new(false), Cell::new(0));
        Self { client, timeout, has_failed, in_flight, last_answer: Cell::new(Instant::now()) }
    }

    /// Sends orders, with retries while the service answers `RESOURCE_EXHAUSTED`.
    async fn send(&self, orders: &[OrderRequest]) -> Result<Vec<OrderResponse>, Status> {
        let mut delay = MIN_RETRY_DELAY;
        while !self.has_failed.get() {
            match self.send_request(orders).await {
                Ok(processed) => return Ok(processed),
                Err(status) if status.code() == Code::ResourceExhausted && self.can_wait(delay) => {
                    tokio::time::sleep(delay).await;
                    delay = MAX_RETRY_DELAY.min(delay * 2);
                }
                Err(status) => {
                    self.has_failed.set(true);
                    return Err(status);
                }
            }
        }
        Ok(Vec::new())
    }

    async fn send_request(&self, orders: &[OrderRequest]) -> Result<Vec<OrderResponse>, Status> {
        let mut request = Request::new(ProcessOrdersRequest { orders: orders.to_vec() });
        request.set_timeout(self.timeout);
        self.in_flight.set(self.in_flight.get() + 1);
        let answered = self.client.clone().process_orders(request).await;
        self.in_flight.set(self.in_flight.get().saturating_sub(1));
        let processed = answered?.into_inner().processed_orders;
        self.last_answer.set(Instant::now());
        Ok(processed)
    }

    /// Refusals are immediate. A retry makes sense while a request in flight will free capacity, or
    /// until no request has been answered for `timeout`.
    fn can_wait(&self, delay: Duration) -> bool {
        self.in_flight.get() > 0 || self.last_answer.get().elapsed() + delay < self.timeout
    }
}

fn orders_progress_bar(order_count: u64) -> ProgressBar {
    // One or two requests need no bar.
    if order_count <= 2 * MAX_ORDERS_PER_REQUEST as u64 || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} orders, {per_sec}, {eta} left");
    ProgressBar::new(order_count).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// Parses and validates all orders before any is sent.
fn parse_order_args(args: &ProcessArgs) -> Result<Vec<OrderRequest>, CommandFailure> {
    let single = args.orders.iter().map(|text| {
        parse_order_pair(text).ok_or_else(|| {
            CommandFailure::Usage(format!("--order: `{text}` is not ORDER:PRODUCT (such as 17:4)"))
        })
    });
    let mut orders: Vec<OrderRequest> = single.collect::<Result<_, _>>()?;
    let mut given_ids = HashSet::new();
    if let Some(twice) = orders.iter().find(|order| !given_ids.insert(order.order_id)) {
        return Err(CommandFailure::Usage(format!(
            "--order: order {} is given twice",
            twice.order_id
        )));
    }
    if let Some(file) = &args.file {
        let file_orders = order_file::read_order_file(file, OrderFileColumns::OrderAndProduct)
            .map_err(CommandFailure::Failed)?;
        if let Some(twice) = file_orders.iter().find(|order| given_ids.contains(&order.order_id)) {
            let (line, id) = (twice.line, twice.order_id);
            return Err(CommandFailure::Failed(format!(
                "{file}:{line}: order_id: order {id} is given by --order, too"
            )));
        }
        for OrderFileEntry { order_id, product_id, .. } in file_orders {
            orders.extend(product_id.map(|product_id| OrderRequest { order_id, product_id }));
        }
    }
    if orders.is_empty() {
        return Err(CommandFailure::Usage(
            "process: which orders? give --order or --file".to_owned(),
        ));
    }
    Ok(orders)
}

fn parse_order_pair(text: &str) -> Option<OrderRequest> {
    let (order_id, product_id) = text.split_once(':')?;
    Some(OrderRequest {
        order_id: order_id.trim().parse().ok()?,
        product_id: product_id.trim().parse().ok()?,
    })
}
