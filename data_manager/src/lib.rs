//! The data manager: asked about an order, it decides storage and pickup point, keeps them for ever and tells them
//! to the order service by callback. On request it misbehaves, reproducibly.
//!
//! A question goes `api` -> `exchange` (decides, keeps, tells) -> `given` (memory or Postgres) and `callbacks` (the
//! calls to the order services); what is not delivered while the question is open is left to `background`.
//!
//! In memory an order costs some 30 bytes for ever; with a database it costs a row. `--once` and misbehaviour cost some
//! 10 bytes an order more each, also with a database.
//!
//! A callback lost by `--drop-callback-rate` is lost until the order is asked for again, with `--once` too.
//! `--once` is exact for one process; over restarts as far as its database remembers.

mod api;
mod background;
mod callbacks;
pub mod commands;
mod counters;
mod exchange;
mod given;
mod message;
mod misbehaviour;
mod once;
mod seed;
mod server;
mod settings;

pub use counters::Counts;
pub use given::{PICKUP_POINTS, STORAGES, decide};
pub use misbehaviour::{DelayMs, Misbehaviour, Mode};
pub use seed::Seed;
pub use server::{DataManager, StartError};
pub use settings::{Settings, Terms};
