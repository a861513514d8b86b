//! Data manager against in-process order services, over real sockets; one file per hazard.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::panic)] // helpers are not `#[test]`

mod asking;
mod batch;
mod database;
mod lifecycle;
mod misbehaviour;
mod modes;
mod once;
mod order_service;
mod program;
mod retry;
