//! `orders …`: looks at orders and re-drives them.

use clap::ArgMatches;
use proto::order_service as wire;
use serde_json::json;
use settings::Resolved;

use super::{Failure, client, output};
use crate::orders::{State, orphans};
use crate::serve::database::{self, Access};
use crate::settings::DatabaseSettings;

pub(super) async fn get(args: &ArgMatches, resolved: &Resolved) -> Result<(), Failure> {
    let (mut client, server) = client::connect(args, resolved)?;
    let order_id = args.get_one::<i32>("id").copied().unwrap_or_default();
    let order = client.get_order(client::request(wire::GetOrderRequest { order_id })).await;
    let order = order.map_err(|status| client::failure(&server, &status))?.into_inner();
    if output::is_json(args) {
        output::json(output::order_json(&order));
        return Ok(());
    }
    output::order_table(&order);
    let changes = order.history.iter();
    let rows = changes.map(|change| {
        [output::state_name(change.state).to_owned(), output::time(change.at.as_ref()).unwrap_or_default()]
    });
    output::table(["state reached", "at"], rows);
    Ok(())
}

pub(super) async fn list(args: &ArgMatches, resolved: &Resolved) -> Result<(), Failure> {
    let (mut client, server) = client::connect(args, resolved)?;
    let state = args.get_one::<String>("state");
    let state = state.and_then(|name| State::ALL.into_iter().find(|state| state.name() == name));
    let request = wire::ListOrdersRequest {
        state: state.map_or(0, |state| state as i32),
        page_size: args.get_one::<i32>("page-size").copied().unwrap_or_default(),
        page_token: args.get_one::<String>("page-token").cloned().unwrap_or_default(),
    };
    let page = client.list_orders(client::request(request)).await;
    let page = page.map_err(|status| client::failure(&server, &status))?.into_inner();
    if output::is_json(args) {
        let orders: Vec<_> = page.orders.iter().map(output::order_json).collect();
        output::json(json!({"orders": orders, "next_page_token": page.next_page_token}));
        return Ok(());
    }
    output::orders_table(&page.orders);
    if !page.next_page_token.is_empty() {
        output::line(format!("more: --page-token {}", page.next_page_token));
    }
    Ok(())
}

pub(super) async fn callbacks(args: &ArgMatches, resolved: &Resolved) -> Result<(), Failure> {
    let database = database::open(&DatabaseSettings::new(resolved)?, Access::Existing).await?;
    let orphans = orphans(&database.pool).await.map_err(anyhow::Error::from)?;
    if output::is_json(args) {
        let orphan = |orphan: &crate::orders::Orphan| {
            json!({"order_id": orphan.order_id, "storage_id": orphan.storage_id,
                "pickup_point_id": orphan.pickup_point_id, "received_at": output::at_micros(orphan.received_at)})
        };
        output::json(json!({"orphans": orphans.iter().map(orphan).collect::<Vec<_>>()}));
    } else {
        let rows = orphans.iter().map(|orphan| {
            let numbers =
                [orphan.order_id, orphan.storage_id, orphan.pickup_point_id].map(|id| id.to_string());
            let [order, storage, pickup] = numbers;
            [order, storage, pickup, output::at_micros(orphan.received_at)]
        });
        output::table(["order", "storage", "pickup point", "received"], rows);
    }
    database.close().await;
    Ok(())
}
