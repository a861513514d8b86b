//! Data manager: on a question about an order it assigns storage and pickup point, stores them
//! permanently and sends them to the order service by callback. It can inject reproducible faults
//! on request.
//!
//! - Shape: `api` -> `exchange` (assigns, stores, delivers) -> `assignments` (memory or Postgres)
//!   and `callbacks` (calls to the order services); deliveries that outlive the question are in
//!   `background`.
//! - Cost: some 30 bytes per order in memory, or a row in the database; `--once` and fault
//!   injection some 10 bytes per order more each, also with a database.
//! - Promise: a callback lost by `--drop-callback-rate` stays lost until the next question about
//!   the order, also with `--once`. `--once` is exact within one process; across restarts as far as
//!   deliveries were recorded in the database.

mod api;
mod assignments;
mod background;
mod callbacks;
pub mod commands;
mod counters;
mod exactly_once;
mod exchange;
mod message;
mod misbehaviour;
mod seed;
mod server;
mod settings;

pub use assignments::{PICKUP_POINT_COUNT, STORAGE_COUNT, draw_order_data};
pub use counters::DeliveryCounts;
pub use misbehaviour::{CallbackMode, DelayMs, MisbehaviourSettings};
pub use seed::Seed;
pub use server::{DataManagerStartError, RunningDataManager};
pub use settings::{DataManagerSettings, DeliveryOptions};
