//! Types in a real control database; one file for each hazard.

mod dry_run;
mod live;
mod overlap;
mod ownership;
mod safety;
mod setup;
