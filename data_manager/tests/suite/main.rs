//! The data manager against order services of this process, over real sockets; a file for each hazard.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::panic)] // the allowance for tests does not reach their helpers

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
