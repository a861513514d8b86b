//! Types in a real control database; one file per hazard.

mod dry_run;
mod live;
mod overlap;
mod ownership;
mod safety;
mod setup;
