//! The data manager: asked about an order, it decides storage and pickup point, keeps them for ever and tells them
//! to the order service by callback. On request it misbehaves, reproducibly.
//!
//! A question goes `api` -> `exchange` (decides, keeps, tells) -> `assignments` (memory or Postgres) and `callbacks` (the
//! calls to the order services); what is not delivered while the question is open is left to `background`.
//!
//! In memory an order costs some 30 bytes for ever; with a database it costs a row. `--once` and misbehaviour cost some
//! 10 bytes an order more each, also with a database.
//!
//! A callback lost by `--drop-callback-rate` is lost until the order is asked for again, with `--once` too.
//! `--once` is exact for one process; over restarts as far as its database remembers.

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
