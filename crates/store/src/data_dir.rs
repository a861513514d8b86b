//! Data directory checks: owned by this user, not writable by others, and without symbolic links at
//! paths that are written to. Read permission does not matter: parent and sibling directories may
//! be accessible to all (the embedded server's user needs that).

use std::fs::{DirBuilder, File, Metadata, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::unistd::{Uid, User, geteuid};

/// Mode of created directories.
const FOLDER_MODE: u32 = 0o700;
/// Mode of created files: opening a lock file is enough to take its lock.
const FILE_MODE: u32 = 0o600;

/// Errors of the data directory, each with advice to the operator.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// An I/O error on a file or directory.
    #[error("{}: {cause}{}", path.display(), advice(cause))]
    File {
        /// Path of the file or directory.
        path: PathBuf,
        /// Error of the file system.
        cause: io::Error,
    },
    /// The directory, or an entry of it, belongs to another user.
    #[error(
        "{} belongs to {owner}, and this process runs as {me}: run it as {owner}, \
         or give another --data-dir (chown gives this one away)",
        path.display()
    )]
    Foreign {
        /// Path of the file or directory.
        path: PathBuf,
        /// Name or uid of its owner.
        owner: String,
        /// Effective user of this process.
        me: String,
    },
    /// Other users may write to it.
    #[error(
        "{} may be written by others (mode {mode:04o}): see that all in it is your own, then chmod go-w it",
        path.display()
    )]
    Writable {
        /// Path of the file or directory.
        path: PathBuf,
        /// Its permission bits, such as 0o775.
        mode: u32,
    },
    /// A symbolic link at a path that is written to.
    #[error(
        "{} is a symbolic link, which is not followed where data is written: \
         move what it points to in its place (or mount it there)",
        path.display()
    )]
    Link {
        /// Path of the link.
        path: PathBuf,
    },
}

/// Advice for a file system error, as the end of a sentence.
fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => ": run it as the owner, or give another --data-dir",
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            ": make room, or give another --data-dir"
        }
        io::ErrorKind::ReadOnlyFilesystem
        | io::ErrorKind::NotADirectory
        | io::ErrorKind::AlreadyExists => ": give another --data-dir",
        _ => "",
    }
}

/// Adds the path to an I/O error.
pub fn file_error(path: &Path) -> impl FnOnce(io::Error) -> DataDirError + '_ {
    move |cause| DataDirError::File { path: path.to_owned(), cause }
}

/// Creates the data directory with mode 0700 if missing; fails if another user owns it or others
/// may write to it. Returns its canonical path: the path to the directory itself
/// may contain symbolic links.
pub fn open_data_dir(dir: &Path) -> Result<PathBuf, DataDirError> {
    DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(dir).map_err(file_error(dir))?;
    let dir = dir.canonicalize().map_err(file_error(dir))?;
    let found = dir.symlink_metadata().map_err(file_error(&dir))?;
    check_owner(&dir, &found, geteuid())?;
    check_not_writable(&dir, &found)?;
    Ok(dir)
}

/// Metadata of a path that is written to, if it exists. Fails for symbolic links and for an owner
/// other than `owner` or root.
pub fn check_own_path(path: &Path, owner: Uid) -> Result<Option<Metadata>, DataDirError> {
    let found = match path.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        found => found.map_err(file_error(path))?,
    };
    if found.is_symlink() {
        return Err(DataDirError::Link { path: path.to_owned() });
    }
    check_owner(path, &found, owner)?;
    Ok(Some(found))
}

/// Like [`check_own_path`] for this process; also removes the permissions of others,
/// which earlier versions granted.
pub fn restrict_to_owner(path: &Path) -> Result<(), DataDirError> {
    let Some(found) = check_own_path(path, geteuid())? else { return Ok(()) };
    if found.uid() != geteuid().as_raw() {
        // Provided by root; its mode is not changed.
        return check_not_writable(path, &found);
    }
    if found.mode() & 0o077 == 0 {
        return Ok(());
    }
    let mode = if found.is_dir() { FOLDER_MODE } else { FILE_MODE };
    let opened = OpenOptions::new().read(true).custom_flags(OFlag::O_NOFOLLOW.bits()).open(path);
    opened
        .and_then(|file| file.set_permissions(Permissions::from_mode(mode)))
        .map_err(file_error(path))
}

/// Creates a directory with mode 0700 and syncs its parent. An existing directory is accepted, a
/// symbolic link is not.
pub fn create_folder(folder: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(FOLDER_MODE).create(folder) {
        Ok(()) => File::open(folder.parent().unwrap_or(Path::new("/")))?.sync_all(),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            match folder.symlink_metadata()?.is_dir() {
                true => Ok(()),
                false => Err(error),
            }
        }
        Err(error) => Err(error),
    }
}

/// Options for opening data files: no symbolic links, mode 0600 for new files.
pub fn own_file_options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(FILE_MODE).custom_flags(OFlag::O_NOFOLLOW.bits());
    options
}

fn check_owner(path: &Path, found: &Metadata, owner: Uid) -> Result<(), DataDirError> {
    if found.uid() == owner.as_raw() || found.uid() == 0 {
        return Ok(());
    }
    let (path, me) = (path.to_owned(), user_name(geteuid()));
    Err(DataDirError::Foreign { path, owner: user_name(Uid::from_raw(found.uid())), me })
}

/// A sticky bit does not help: others could still create files.
fn check_not_writable(path: &Path, found: &Metadata) -> Result<(), DataDirError> {
    match found.mode() & 0o022 {
        0 => Ok(()),
        _ => Err(DataDirError::Writable { path: path.to_owned(), mode: found.mode() & 0o7777 }),
    }
}

/// Name of a user for messages.
fn user_name(user: Uid) -> String {
    match User::from_uid(user) {
        Ok(Some(known)) => format!("user {}", known.name),
        _ => format!("user {user}"),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn chmod(path: &Path, mode: u32) {
        std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn only_a_dir_that_nobody_else_writes_in_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("a/data");
        assert_eq!(open_data_dir(&dir).unwrap(), dir.canonicalize().unwrap());
        assert_eq!(dir.metadata().unwrap().mode() & 0o7777, 0o700);
        for mode in [0o755, 0o711, 0o750] {
            chmod(&dir, mode);
            open_data_dir(&dir).unwrap();
        }
        for mode in [0o770, 0o775, 0o777, 0o1777, 0o702] {
            chmod(&dir, mode);
            let refused = open_data_dir(&dir).unwrap_err().to_string();
            assert!(
                refused.contains(&format!("{mode:04o}")) && refused.contains("chmod go-w"),
                "{refused}"
            );
        }
    }

    #[test]
    fn a_link_is_named_and_what_is_open_is_closed() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        std::fs::write(&file, "kept").unwrap();
        chmod(&file, 0o644);
        symlink(&file, &link).unwrap();
        for refused in [restrict_to_owner(&link), check_own_path(&link, geteuid()).map(drop)] {
            assert!(matches!(refused, Err(DataDirError::Link { path }) if path == link));
        }
        assert!(own_file_options().read(true).open(&link).is_err());
        assert!(create_folder(&link).is_err());
        restrict_to_owner(&file).unwrap();
        assert_eq!(file.metadata().unwrap().mode() & 0o7777, 0o600);
        restrict_to_owner(&folder.path().join("nothing")).unwrap();
    }

    #[test]
    fn folders_are_made_for_us_alone() {
        let folder = tempfile::tempdir().unwrap();
        let (inner, file) = (folder.path().join("inner"), folder.path().join("file"));
        std::fs::write(&file, "").unwrap();
        create_folder(&inner).unwrap();
        create_folder(&inner).unwrap();
        assert_eq!(inner.metadata().unwrap().mode() & 0o7777, 0o700);
        assert!(create_folder(&file).is_err());
    }
}
