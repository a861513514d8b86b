//! Commands `orders …`: show orders and retry them.

use clap::ArgMatches;
use proto::order_service as wire;
use serde_json::{Value, json};
use settings::ResolvedSettings;

use super::{CommandFailure, grpc_client, output};
use crate::orders::db::{OrderState, OrphanCallback, list_orphan_callbacks};
use crate::serve::database::{self, DatabaseAccess};
use crate::settings::DatabaseSettings;

pub(super) async fn print_order(
    args: &ArgMatches,
    resolved: &ResolvedSettings,
) -> Result<(), CommandFailure> {
    let (mut client, server) = grpc_client::connect_grpc_client(args, resolved)?;
    let order_id = args.get_one::<i32>("id").copied().unwrap_or_default();
    let order = client
        .get_order(grpc_client::request_with_timeout(wire::GetOrderRequest { order_id }))
        .await;
    let order = order.map_err(|status| grpc_client::status_failure(&server, &status))?.into_inner();
    if output::is_json_output(args) {
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

pub(super) async fn print_orders(
    args: &ArgMatches,
    resolved: &ResolvedSettings,
) -> Result<(), CommandFailure> {
    let (mut client, server) = grpc_client::connect_grpc_client(args, resolved)?;
    let state = args.get_one::<String>("state");
    let state =
        state.and_then(|name| OrderState::ALL.into_iter().find(|state| state.name() == name));
    let request = wire::ListOrdersRequest {
        state: state.map_or(0, |state| state as i32),
        page_size: args.get_one::<i32>("page-size").copied().unwrap_or_default(),
        page_token: args.get_one::<String>("page-token").cloned().unwrap_or_default(),
    };
    let page = client.list_orders(grpc_client::request_with_timeout(request)).await;
    let page = page.map_err(|status| grpc_client::status_failure(&server, &status))?.into_inner();
    if output::is_json_output(args) {
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

pub(super) async fn print_orphan_callbacks(
    args: &ArgMatches,
    resolved: &ResolvedSettings,
) -> Result<(), CommandFailure> {
    let database = database::open_control_database(
        &DatabaseSettings::new(resolved)?,
        DatabaseAccess::Existing,
    )
    .await?;
    let orphans = list_orphan_callbacks(&database.pool).await.map_err(anyhow::Error::from)?;
    if output::is_json_output(args) {
        let orphans: Vec<Value> = orphans.iter().map(orphan_json).collect();
        output::print_json(json!({"orphans": orphans}));
    } else {
        let rows = orphans.iter().map(|orphan| {
            let numbers = [orphan.order_id, orphan.storage_id, orphan.pickup_point_id]
                .map(|id| id.to_string());
            let [order, storage, pickup] = numbers;
            [order, storage, pickup, output::format_micros(orphan.received_at)]
        });
        output::print_table(["order", "storage", "pickup point", "received"], rows);
    }
    database.close().await;
    Ok(())
}

fn orphan_json(orphan: &OrphanCallback) -> Value {
    json!({"order_id": orphan.order_id, "storage_id": orphan.storage_id,
        "pickup_point_id": orphan.pickup_point_id, "received_at": output::format_micros(orphan.received_at)})
}
