//! Atomic creation of a cluster: `initdb` in a temporary directory, then a rename.

use std::fs::{DirBuilder, File};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use nix::sys::statvfs::statvfs;
use nix::unistd::{User, chown, geteuid, syncfs};

use super::server::{ServerUser, inherit_folder, open_folder, proc_fd_path};
use super::{CLUSTER_USER, EmbeddedError, failure};
use crate::data_dir::file_error;

/// Minimum free space for a new cluster, in MiB: it takes about 130 without later data, and
/// `initdb` would otherwise fail halfway.
const MIN_FREE_MIB: u64 = 200;

/// Creates the cluster in a temporary directory, syncs it and renames it into place: a crash leaves
/// all or nothing, a failure nothing.
pub(super) fn initialise_cluster(
    dir: &Path,
    binaries: &Path,
    owner: &ServerUser,
    data_dir: &Path,
) -> Result<(), EmbeddedError> {
    check_free_space(data_dir)?;
    check_user_name(owner)?;
    let fresh = dir.with_extension("new");
    remove_folder(&fresh)?;
    let made = run_initdb(&fresh, binaries, owner, data_dir).and_then(|()| {
        let parent = File::open(data_dir).map_err(file_error(data_dir))?;
        syncfs(&parent).map_err(|e| file_error(data_dir)(e.into()))?;
        std::fs::rename(&fresh, dir).map_err(file_error(dir))?;
        Ok(parent.sync_all().map_err(file_error(data_dir))?)
    });
    if made.is_err() {
        let _ = remove_folder(&fresh);
    }
    made
}

fn remove_folder(fresh: &Path) -> Result<(), EmbeddedError> {
    match std::fs::remove_dir_all(fresh) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(file_error(fresh)(error).into())
        }
        _ => Ok(()),
    }
}

fn run_initdb(
    fresh: &Path,
    binaries: &Path,
    owner: &ServerUser,
    data_dir: &Path,
) -> Result<(), EmbeddedError> {
    DirBuilder::new().mode(0o700).create(fresh).map_err(file_error(fresh))?;
    if let ServerUser(Some(user)) = owner {
        chown(fresh, Some(user.uid), Some(user.gid)).map_err(|e| file_error(fresh)(e.into()))?;
    }
    let folder = open_folder(fresh)?;
    let mut initdb = owner.command(&binaries.join("initdb"));
    initdb.args([
        "-D",
        &proc_fd_path(&folder),
        "-U",
        CLUSTER_USER,
        "-A",
        "trust",
        "-E",
        "UTF8",
        "--locale=C",
        "-N",
    ]);
    inherit_folder(&mut initdb, folder.as_raw_fd(), false);
    let output = initdb
        .output()
        .map_err(|cause| EmbeddedError::Program { path: binaries.to_owned(), cause })?;
    if output.status.success() {
        return Ok(());
    }
    let text = [output.stdout, output.stderr].concat();
    let reason = failure::explain_failure(&String::from_utf8_lossy(&text));
    Err(EmbeddedError::NotStarted { data_dir: data_dir.to_owned(), reason })
}

fn check_free_space(data_dir: &Path) -> Result<(), EmbeddedError> {
    let stats = statvfs(data_dir).map_err(|e| file_error(data_dir)(e.into()))?;
    #[allow(clippy::useless_conversion)] // narrower on other platforms
    let free_mib =
        u64::from(stats.blocks_available()).saturating_mul(u64::from(stats.fragment_size())) >> 20;
    match free_mib < MIN_FREE_MIB {
        true => Err(EmbeddedError::NoFreeSpace {
            data_dir: data_dir.to_owned(),
            free_mib,
            needed_mib: MIN_FREE_MIB,
        }),
        false => Ok(()),
    }
}

/// `initdb` requires a name for the effective user; the server does not.
fn check_user_name(owner: &ServerUser) -> Result<(), EmbeddedError> {
    let uid = geteuid();
    match (owner, User::from_uid(uid)) {
        (ServerUser(None), Ok(None)) => Err(EmbeddedError::NamelessUser { uid: uid.as_raw() }),
        _ => Ok(()),
    }
}
