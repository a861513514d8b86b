//! `orders retry`: retries orders given by id, by file or by state.

use std::io::IsTerminal as _;
use std::time::Duration;

use clap::Args;
use futures::StreamExt as _;
use proto::order_service as wire;
use serde_json::json;
use settings::ResolvedSettings;
use tonic::{Code, Request, Status};

use super::definition::{
    GRPC_CLIENT_SETTING_NAMES, all_examples, first_example, named_value_parser, setting_args,
};
use super::grpc_client::GrpcServerArgs;
use super::order_file::{self, OrderFileColumns};
use super::output::OutputArgs;
use super::{CommandFailure, grpc_client, output};
use order_service::orders::db::OrderState;

/// Maximum order ids in one request.
const MAX_IDS_PER_REQUEST: usize = 10_000;
/// Concurrent requests for single orders.
const MAX_CONCURRENT_REQUESTS: usize = 16;
/// Long, because there may be many failed orders.
const RETRY_TIMEOUT: Duration = Duration::from_secs(600);

const EXAMPLES: &str = "order_service orders retry 17 18\n         \
                        order_service orders retry --state order_failed";

/// Arguments of the command.
#[derive(Debug, Args)]
#[command(
    about = "Revives failed orders and tries waiting ones now",
    args = setting_args(&GRPC_CLIENT_SETTING_NAMES),
    after_help = first_example(EXAMPLES),
    after_long_help = all_examples(EXAMPLES)
)]
#[group(skip)]
pub(super) struct RetryOrdersArgs {
    #[command(flatten)]
    pub(super) target: RetryTargetArgs,
    #[arg(long, help = "Does not ask back")]
    yes: bool,
    #[command(flatten)]
    server: GrpcServerArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Orders to retry: exactly one of these is given.
#[derive(Debug, Args)]
#[group(id = "which", required = true, multiple = false)]
pub(super) struct RetryTargetArgs {
    #[arg(value_name = "ID", allow_negative_numbers = true)]
    pub(super) ids: Vec<i32>,
    #[arg(
        long,
        value_name = "STATE",
        value_parser = named_value_parser(OrderState::ALL, OrderState::name),
        help = "All orders in this state; asks back with their number"
    )]
    state: Option<OrderState>,
    #[arg(
        long,
        value_name = "FILE",
        allow_hyphen_values = true,
        help = "The orders of a file, or - for standard input; asks back with their number"
    )]
    file: Option<String>,
}

/// Selected orders, and their description for messages.
struct RetrySelection {
    ids: Vec<i32>,
    state: Option<OrderState>,
    description: String,
}

impl RetrySelection {
    /// One request, or several for a long file.
    fn build_requests(&self, dry_run: bool) -> Vec<wire::RetryOrdersRequest> {
        let state = self.state.map_or(0, |state| state as i32);
        if self.state.is_some() {
            return vec![wire::RetryOrdersRequest { order_ids: Vec::new(), state, dry_run }];
        }
        let chunks = self.ids.chunks(MAX_IDS_PER_REQUEST);
        chunks
            .map(|ids| wire::RetryOrdersRequest { order_ids: ids.to_vec(), state, dry_run })
            .collect()
    }
}

pub(super) async fn retry_orders(
    args: &RetryOrdersArgs,
    resolved: &ResolvedSettings,
) -> Result<(), CommandFailure> {
    let selection = read_selection(&args.target)?;
    let (mut client, server) = grpc_client::connect_grpc_client(&args.server, resolved)?;
    let is_bulk = args.target.ids.is_empty();
    if is_bulk && !args.yes {
        let counted = send_retries(&mut client, &selection, true).await;
        let counted = counted.map_err(|status| retry_failure(&server, &status))?;
        confirm_retry(counted.orders, &selection.description)?;
    }
    let answer = send_retries(&mut client, &selection, false).await;
    let answer = answer.map_err(|status| retry_failure(&server, &status))?;
    if is_bulk {
        print_retry_count(args.output, &answer);
    } else {
        let mut retried_ids = selection.ids;
        retried_ids.retain(|id| !answer.errors.iter().any(|error| error.order_id == *id));
        let orders = fetch_orders(&client, retried_ids).await;
        let orders = orders.map_err(|status| retry_failure(&server, &status))?;
        print_retried_orders(args.output, &answer, orders);
    }
    match answer.errors.as_slice() {
        [] => Ok(()),
        [first, rest @ ..] => {
            let more =
                if rest.is_empty() { String::new() } else { format!(" (and {} more)", rest.len()) };
            Err(CommandFailure::Failed(format!("{}{more}", first.message)))
        }
    }
}

fn retry_failure(server: &str, status: &Status) -> CommandFailure {
    match status.code() {
        Code::Unimplemented => CommandFailure::Failed(format!(
            "the service at {server} is too old for this: it only retries orders by their ids (as arguments, or by --file with --yes)"
        )),
        _ => grpc_client::status_failure(server, status),
    }
}

fn read_selection(target: &RetryTargetArgs) -> Result<RetrySelection, CommandFailure> {
    if let Some(file) = &target.file {
        let orders = order_file::read_order_file(file, OrderFileColumns::Order)
            .map_err(CommandFailure::Failed)?;
        let ids = orders.iter().map(|order| order.order_id).collect();
        return Ok(RetrySelection { ids, state: None, description: format!("of {file}") });
    }
    let state = target.state;
    let description = state.map_or_else(String::new, |state| format!("in state {}", state.name()));
    Ok(RetrySelection { ids: target.ids.clone(), state, description })
}

/// Merged answers of all requests.
async fn send_retries(
    client: &mut grpc_client::OrderGrpcClient,
    selection: &RetrySelection,
    dry_run: bool,
) -> Result<wire::RetryOrdersResponse, Status> {
    let mut all = wire::RetryOrdersResponse::default();
    for asked in selection.build_requests(dry_run) {
        let mut request = Request::new(asked.clone());
        request.set_timeout(RETRY_TIMEOUT);
        let answer = match client.retry_orders(request).await {
            // Old services only have the call for one order.
            Err(status)
                if status.code() == Code::Unimplemented
                    && !dry_run
                    && !asked.order_ids.is_empty() =>
            {
                retry_one_by_one(client, asked.order_ids).await?
            }
            answered => answered?.into_inner(),
        };
        all.orders += answer.orders;
        all.errors.extend(answer.errors);
    }
    Ok(all)
}

/// Fallback for `RetryOrders`, with one call per order.
async fn retry_one_by_one(
    client: &grpc_client::OrderGrpcClient,
    ids: Vec<i32>,
) -> Result<wire::RetryOrdersResponse, Status> {
    let retries = ids.into_iter().map(async |order_id| {
        let request = grpc_client::request_with_timeout(wire::RetryOrderRequest { order_id });
        (order_id, client.clone().retry_order(request).await)
    });
    let answers: Vec<_> =
        futures::stream::iter(retries).buffered(MAX_CONCURRENT_REQUESTS).collect().await;
    let mut all = wire::RetryOrdersResponse::default();
    for (order_id, answer) in answers {
        match answer {
            Ok(_) => all.orders += 1,
            Err(status) if matches!(status.code(), Code::NotFound | Code::FailedPrecondition) => {
                let (code, message) = (status.code() as i32, status.message().to_owned());
                all.errors.push(wire::RetryError { order_id, code, message });
            }
            Err(status) => return Err(status),
        }
    }
    Ok(all)
}

/// Asks for confirmation of the number of orders; without a terminal `--yes` is required.
fn confirm_retry(count: i64, named: &str) -> Result<(), CommandFailure> {
    let orders = if count == 1 { "1 order".to_owned() } else { format!("{count} orders") };
    if count == 0 {
        return Err(CommandFailure::Failed(format!("no order {named} can be retried")));
    }
    if !std::io::stdin().is_terminal() {
        return Err(CommandFailure::Failed(format!(
            "{orders} {named} would be retried: give --yes to do it"
        )));
    }
    output::print_remark(format!("{orders} {named} will be retried. Go on? [y/N]"));
    let mut answer = String::new();
    let read = std::io::stdin().read_line(&mut answer);
    match read.is_ok() && matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes") {
        true => Ok(()),
        false => Err(CommandFailure::Failed("nothing was retried".to_owned())),
    }
}

async fn fetch_orders(
    client: &grpc_client::OrderGrpcClient,
    ids: Vec<i32>,
) -> Result<Vec<wire::Order>, Status> {
    let looks = ids.into_iter().map(async |order_id| {
        let order = client
            .clone()
            .get_order(grpc_client::request_with_timeout(wire::GetOrderRequest { order_id }))
            .await;
        order.map(tonic::Response::into_inner)
    });
    let looked: Vec<_> =
        futures::stream::iter(looks).buffered(MAX_CONCURRENT_REQUESTS).collect().await;
    looked.into_iter().collect()
}

fn errors_json(answer: &wire::RetryOrdersResponse) -> Vec<serde_json::Value> {
    answer
        .errors
        .iter()
        .map(|error| json!({"order_id": error.order_id, "message": error.message}))
        .collect()
}

fn print_retry_count(format: OutputArgs, answer: &wire::RetryOrdersResponse) {
    match format.is_json() {
        true => {
            output::print_json(json!({"retried": answer.orders, "errors": errors_json(answer)}))
        }
        false => output::print_line(format!("{} orders are tried again", answer.orders)),
    }
}

fn print_retried_orders(
    format: OutputArgs,
    answer: &wire::RetryOrdersResponse,
    orders: Vec<wire::Order>,
) {
    if format.is_json() {
        let orders: Vec<_> = orders.iter().map(output::order_json).collect();
        output::print_json(json!({"orders": orders, "errors": errors_json(answer)}));
    } else if !orders.is_empty() {
        output::print_orders_table(&orders);
    }
}
