//! Events on a real Postgres: one file for each hazard.

mod chains;
mod configs;
mod exactly_once;
mod filters;
mod harness;
mod joins;
mod keys;
mod retention;
mod statuses;
mod stories;
mod webhooks;
