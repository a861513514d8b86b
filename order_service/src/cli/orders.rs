//! Commands `orders …`: show orders and retry them.

use clap::{Args, Subcommand, value_parser};
use proto::order_service as wire;
use serde_json::{Value, json};
use settings::ResolvedSettings;

use super::definition::{
    DATABASE_SETTING_NAMES, GRPC_CLIENT_SETTING_NAMES, all_examples, first_example,
    named_value_parser, setting_args,
};
use super::grpc_client::GrpcServerArgs;
use super::output::OutputArgs;
use super::reconciled_orders::{self, ReconcileOrdersArgs};
use super::retries::{self, RetryOrdersArgs};
use super::{CommandFailure, grpc_client, missing_subcommand, output};
use order_service::orders::db::{OrderState, OrphanCallback, list_orphan_callbacks};
use order_service::serve::database::{self, DatabaseAccess};
use order_service::settings::DatabaseSettings;

const GET_EXAMPLES: &str = "order_service orders get 17";
const LIST_EXAMPLES: &str = "order_service orders list --state order_failed";
const CALLBACKS_EXAMPLES: &str = "order_service orders callbacks --orphans";

/// Commands `orders …`.
#[derive(Debug, Subcommand)]
pub(super) enum OrdersCommand {
    Get(GetOrderArgs),
    List(ListOrdersArgs),
    Retry(RetryOrdersArgs),
    Reconcile(ReconcileOrdersArgs),
    Callbacks(OrphanCallbacksArgs),
}

/// Arguments of `orders get`.
#[derive(Debug, Args)]
#[command(
    about = "Shows one order",
    args = setting_args(&GRPC_CLIENT_SETTING_NAMES),
    after_help = first_example(GET_EXAMPLES),
    after_long_help = all_examples(GET_EXAMPLES)
)]
#[group(skip)]
pub(super) struct GetOrderArgs {
    #[arg(value_name = "ID", allow_negative_numbers = true)]
    id: i32,
    #[command(flatten)]
    server: GrpcServerArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Arguments of `orders list`.
#[derive(Debug, Args)]
#[command(
    about = "Lists orders by id, a page at a time",
    args = setting_args(&GRPC_CLIENT_SETTING_NAMES),
    after_help = first_example(LIST_EXAMPLES),
    after_long_help = all_examples(LIST_EXAMPLES)
)]
#[group(skip)]
pub(super) struct ListOrdersArgs {
    #[arg(
        long,
        value_name = "STATE",
        value_parser = named_value_parser(OrderState::ALL, OrderState::name),
        help = "Only orders in this state"
    )]
    state: Option<OrderState>,
    #[arg(
        long,
        value_name = "COUNT",
        default_value = "100",
        value_parser = value_parser!(i32).range(1..=1000),
        help = "Orders on a page"
    )]
    page_size: i32,
    #[arg(
        long,
        value_name = "TOKEN",
        default_value = "",
        help = "The page to show, as the page before named it"
    )]
    page_token: String,
    #[command(flatten)]
    server: GrpcServerArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Arguments of `orders callbacks`.
#[derive(Debug, Args)]
#[command(
    about = "Callbacks of the last day for orders that nobody knows (reads the database)",
    args = setting_args(&DATABASE_SETTING_NAMES),
    after_help = first_example(CALLBACKS_EXAMPLES),
    after_long_help = all_examples(CALLBACKS_EXAMPLES)
)]
#[group(skip)]
pub(super) struct OrphanCallbacksArgs {
    // Required: no other callbacks can be shown.
    #[arg(long = "orphans", required = true, help = "Show callbacks without an order")]
    _orphans: bool,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) async fn run_orders_command(
    command: Option<OrdersCommand>,
    resolved: &ResolvedSettings,
) -> Result<(), CommandFailure> {
    match command.ok_or_else(|| missing_subcommand("orders"))? {
        OrdersCommand::Get(args) => print_order(&args, resolved).await,
        OrdersCommand::List(args) => print_orders(&args, resolved).await,
        OrdersCommand::Retry(args) => retries::retry_orders(&args, resolved).await,
        OrdersCommand::Reconcile(args) => {
            reconciled_orders::reconcile_orders(&args, resolved).await
        }
        OrdersCommand::Callbacks(args) => print_orphan_callbacks(&args, resolved).await,
    }
}

async fn print_order(
    args: &GetOrderArgs,
    resolved: &ResolvedSettings,
) -> Result<(), CommandFailure> {
    let (mut client, server) = grpc_client::connect_grpc_client(&args.server, resolved)?;
    let request = wire::GetOrderRequest { order_id: args.id };
    let order = client.get_order(grpc_client::request_with_timeout(request)).await;
    let order = order.map_err(|status| grpc_client::status_failure(&server, &status))?.into_inner();
    if args.output.is_json() {
        output::print_json(output::order_json(&order));
        return Ok(());
    }
    output::print_order_table(&order);
    let changes = order.history.iter();
    let rows = changes.map(|change| {
        [
            output::state_name(change.state).to_owned(),
            output::timestamp_text(change.at.as_ref()).unwrap_or_default(),
        ]
    });
    output::print_table(["state reached", "at"], rows);
    Ok(())
}

async fn print_orders(
    args: &ListOrdersArgs,
    resolved: &ResolvedSettings,
) -> Result<(), CommandFailure> {
    let (mut client, server) = grpc_client::connect_grpc_client(&args.server, resolved)?;
    let request = wire::ListOrdersRequest {
        state: args.state.map_or(0, |state| state as i32),
        page_size: args.page_size,
        page_token: args.page_token.clone(),
    };
    let page = client.list_orders(grpc_client::request_with_timeout(request)).await;
    let page = page.map_err(|status| grpc_client::status_failure(&server, &status))?.into_inner();
    if args.output.is_json() {
        let orders: Vec<_> = page.orders.iter().map(output::order_json).collect();
        output::print_json(json!({"orders": orders, "next_page_token": page.next_page_token}));
        return Ok(());
    }
    output::print_orders_table(&page.orders);
    if !page.next_page_token.is_empty() {
        output::print_line(format!("more: --page-token {}", page.next_page_token));
    }
    Ok(())
}

async fn print_orphan_callbacks(
    args: &OrphanCallbacksArgs,
    resolved: &ResolvedSettings,
) -> Result<(), CommandFailure> {
    let database = database::open_control_database(
        &DatabaseSettings::new(resolved)?,
        DatabaseAccess::Existing,
    )
    .await?;
    let orphans = list_orphan_callbacks(&database.pool).await.map_err(anyhow::Error::from)?;
    if args.output.is_json() {
        let orphans: Vec<Value> = orphans.iter().map(orphan_json).collect();
        output::print_json(json!({"orphans": orphans}));
    } else {
        let rows = orphans.iter().map(|orphan| {
            [
                orphan.order_id.to_string(),
                orphan.storage_id.to_string(),
                orphan.pickup_point_id.to_string(),
                output::format_micros(orphan.received_at),
            ]
        });
        output::print_table(["order", "storage", "pickup point", "received"], rows);
    }
    database.close().await;
    Ok(())
}

fn orphan_json(orphan: &OrphanCallback) -> Value {
    json!({"order_id": orphan.order_id.get(), "storage_id": orphan.storage_id.get(),
        "pickup_point_id": orphan.pickup_point_id.get(), "received_at": output::format_micros(orphan.received_at)})
}
