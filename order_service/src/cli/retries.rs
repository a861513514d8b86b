//! `orders retry`: orders named on the command line, in a file, or by their state.

use std::io::IsTerminal as _;
use std::time::Duration;

use clap::ArgMatches;
use futures::StreamExt as _;
use proto::order_service as wire;
use serde_json::json;
use settings::Resolved;
use tonic::{Code, Request, Status};

use super::order_file::{self, Columns};
use super::{Failure, client, output};
use crate::orders::State;

/// Orders in one request.
const TOGETHER: usize = 10_000;
/// Orders looked at side by side.
const SIDE_BY_SIDE: usize = 16;
/// All failed orders may be many.
const PATIENCE: Duration = Duration::from_secs(600);

/// Which orders, and what they are called.
struct Chosen {
    ids: Vec<i32>,
    state: Option<State>,
    named: String,
}

impl Chosen {
    /// One request, or several for a long file.
    fn requests(&self, dry_run: bool) -> Vec<wire::RetryOrdersRequest> {
        let state = self.state.map_or(0, |state| state as i32);
        if self.state.is_some() {
            return vec![wire::RetryOrdersRequest { order_ids: Vec::new(), state, dry_run }];
        }
        let chunks = self.ids.chunks(TOGETHER);
        let of = |ids: &[i32]| wire::RetryOrdersRequest { order_ids: ids.to_vec(), state, dry_run };
        chunks.map(of).collect()
    }
}

pub(super) async fn retry(args: &ArgMatches, resolved: &Resolved) -> Result<(), Failure> {
    let chosen = chosen(args)?;
    let (mut client, server) = client::connect(args, resolved)?;
    let failed = |status: Status| match status.code() {
        Code::Unimplemented => Failure::Failed(format!(
            "the service at {server} is too old for this: it only retries orders by their ids (as arguments, or by --file with --yes)"
        )),
        _ => client::failure(&server, &status),
    };
    let is_bulk = args.get_many::<i32>("id").is_none();
    if is_bulk && !args.get_flag("yes") {
        let count = ask(&mut client, &chosen, true).await.map_err(failed)?.orders;
        confirm(count, &chosen.named)?;
    }
    let answer = ask(&mut client, &chosen, false).await.map_err(failed)?;
    match is_bulk {
        true => show_count(args, &answer),
        false => {
            let refused = |id: &i32| answer.errors.iter().any(|error| error.order_id == *id);
            let retried = chosen.ids.iter().copied().filter(|id| !refused(id)).collect();
            show_orders(args, &answer, look(&client, retried).await.map_err(failed)?);
        }
    }
    match answer.errors.as_slice() {
        [] => Ok(()),
        [first, rest @ ..] => {
            let more = if rest.is_empty() { String::new() } else { format!(" (and {} more)", rest.len()) };
            Err(Failure::Failed(format!("{}{more}", first.message)))
        }
    }
}

fn chosen(args: &ArgMatches) -> Result<Chosen, Failure> {
    if let Some(file) = args.get_one::<String>("file") {
        let orders = order_file::read(file, Columns::Order).map_err(Failure::Failed)?;
        let ids = orders.iter().map(|order| order.order_id).collect();
        return Ok(Chosen { ids, state: None, named: format!("of {file}") });
    }
    let state = args.get_one::<String>("state");
    let state = state.and_then(|name| State::ALL.into_iter().find(|state| state.name() == name));
    let ids = args.get_many::<i32>("id").into_iter().flatten().copied().collect();
    let named = state.map_or_else(String::new, |state| format!("in state {}", state.name()));
    Ok(Chosen { ids, state, named })
}

/// The answers to all requests as one.
async fn ask(
    client: &mut client::Client,
    chosen: &Chosen,
    dry_run: bool,
) -> Result<wire::RetryOrdersResponse, Status> {
    let mut all = wire::RetryOrdersResponse::default();
    for asked in chosen.requests(dry_run) {
        let mut request = Request::new(asked.clone());
        request.set_timeout(PATIENCE);
        let answer = match client.retry_orders(request).await {
            // The call came later than the one for a single order.
            Err(status)
                if status.code() == Code::Unimplemented && !dry_run && !asked.order_ids.is_empty() =>
            {
                one_by_one(client, asked.order_ids).await?
            }
            answered => answered?.into_inner(),
        };
        all.orders += answer.orders;
        all.errors.extend(answer.errors);
    }
    Ok(all)
}

/// The same as the call for many does.
async fn one_by_one(client: &client::Client, ids: Vec<i32>) -> Result<wire::RetryOrdersResponse, Status> {
    let retries = ids.into_iter().map(async |order_id| {
        let request = client::request(wire::RetryOrderRequest { order_id });
        (order_id, client.clone().retry_order(request).await)
    });
    let answers: Vec<_> = futures::stream::iter(retries).buffered(SIDE_BY_SIDE).collect().await;
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

/// Asks back with the number, where somebody can answer.
fn confirm(count: i64, named: &str) -> Result<(), Failure> {
    let orders = if count == 1 { "1 order".to_owned() } else { format!("{count} orders") };
    if count == 0 {
        return Err(Failure::Failed(format!("no order {named} can be retried")));
    }
    if !std::io::stdin().is_terminal() {
        return Err(Failure::Failed(format!("{orders} {named} would be retried: give --yes to do it")));
    }
    output::remark(format!("{orders} {named} will be retried. Go on? [y/N]"));
    let mut answer = String::new();
    let read = std::io::stdin().read_line(&mut answer);
    match read.is_ok() && matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes") {
        true => Ok(()),
        false => Err(Failure::Failed("nothing was retried".to_owned())),
    }
}

async fn look(client: &client::Client, ids: Vec<i32>) -> Result<Vec<wire::Order>, Status> {
    let looks = ids.into_iter().map(async |order_id| {
        let order = client.clone().get_order(client::request(wire::GetOrderRequest { order_id })).await;
        order.map(tonic::Response::into_inner)
    });
    let looked: Vec<_> = futures::stream::iter(looks).buffered(SIDE_BY_SIDE).collect().await;
    looked.into_iter().collect()
}

fn errors(answer: &wire::RetryOrdersResponse) -> Vec<serde_json::Value> {
    let error = |error: &wire::RetryError| json!({"order_id": error.order_id, "message": error.message});
    answer.errors.iter().map(error).collect()
}

fn show_count(args: &ArgMatches, answer: &wire::RetryOrdersResponse) {
    match output::is_json(args) {
        true => output::json(json!({"retried": answer.orders, "errors": errors(answer)})),
        false => output::line(format!("{} orders are tried again", answer.orders)),
    }
}

fn show_orders(args: &ArgMatches, answer: &wire::RetryOrdersResponse, orders: Vec<wire::Order>) {
    if output::is_json(args) {
        let orders: Vec<_> = orders.iter().map(output::order_json).collect();
        output::json(json!({"orders": orders, "errors": errors(answer)}));
    } else if !orders.is_empty() {
        output::orders_table(&orders);
    }
}
