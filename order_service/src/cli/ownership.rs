//! Flags of commands that reconcile objects with owners.

use clap::Args;

/// Flags `--take-over` and `--allow-delete-all`.
#[derive(Debug, Clone, Copy, Args)]
#[group(skip)]
pub(super) struct OwnershipArgs {
    #[arg(long, help = "Take over what belongs to the API or the configurator")]
    pub(super) take_over: bool,
    #[arg(
        long,
        help = "Delete everything of a kind if the bundle has nothing of it; without this, that is refused"
    )]
    pub(super) allow_delete_all: bool,
}
