//! A data dir that is fit to be worked in: ours, closed to other people's writing, and without links among what we write,
//! so that nobody else can say what a path in it stands for. Reading it is another matter: folders above and beside may be
//! anybody's to enter (the embedded server's user has to).

use std::fs::{DirBuilder, File, Metadata, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::unistd::{Uid, User, geteuid};

/// Rights of the folders that are made here.
const FOLDER_MODE: u32 = 0o700;
/// Rights of the files that are made here: whoever may open a lock file may hold the lock.
const FILE_MODE: u32 = 0o600;

/// Why a data dir cannot be used, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// A file or folder in it cannot be used.
    #[error("{}: {cause}{}", path.display(), advice(cause))]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// It, or something in it, belongs to somebody else.
    #[error(
        "{} belongs to {owner}, and this process runs as {me}: run it as {owner}, \
         or give another --data-dir (chown gives this one away)",
        path.display()
    )]
    Foreign {
        /// Which.
        path: PathBuf,
        /// Whose.
        owner: String,
        /// Who asks.
        me: String,
    },
    /// Others may write in it.
    #[error(
        "{} may be written by others (mode {mode:04o}): see that all in it is your own, then chmod go-w it",
        path.display()
    )]
    Writable {
        /// Which.
        path: PathBuf,
        /// Its rights.
        mode: u32,
    },
    /// A link where we write.
    #[error(
        "{} is a symbolic link, which is not followed where data is written: \
         move what it points to in its place (or mount it there)",
        path.display()
    )]
    Link {
        /// Which.
        path: PathBuf,
    },
}

/// What to do about an error of the file system; as the end of a sentence.
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

/// An error with the path it is about.
pub fn file_error(path: &Path) -> impl FnOnce(io::Error) -> DataDirError + '_ {
    move |cause| DataDirError::File { path: path.to_owned(), cause }
}

/// Makes the data dir if it is not there (only for us), and refuses one of another user, or that others may write in. Where
/// it really lies: that it may be reached by a link is its owner's choice.
pub fn open_data_dir(dir: &Path) -> Result<PathBuf, DataDirError> {
    DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(dir).map_err(file_error(dir))?;
    let dir = dir.canonicalize().map_err(file_error(dir))?;
    let found = dir.symlink_metadata().map_err(file_error(&dir))?;
    check_owner(&dir, &found, geteuid())?;
    check_not_writable(&dir, &found)?;
    Ok(dir)
}

/// What is at a path that we write to, if anything is. Refuses links, and what neither `owner` nor root owns.
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

/// As [`check_own_path`] for this process, and takes the rights of others away: earlier versions gave them some.
pub fn restrict_to_owner(path: &Path) -> Result<(), DataDirError> {
    let Some(found) = check_own_path(path, geteuid())? else { return Ok(()) };
    if found.uid() != geteuid().as_raw() {
        // Root's, who gave it to us as it is.
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

/// Makes a folder that only we may enter, for good; one that is there may not be a link.
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

/// How files of ours are opened: never through a link; new ones are ours alone.
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

/// Not even with the sticky bit: others could make what is not there yet.
fn check_not_writable(path: &Path, found: &Metadata) -> Result<(), DataDirError> {
    match found.mode() & 0o022 {
        0 => Ok(()),
        _ => Err(DataDirError::Writable { path: path.to_owned(), mode: found.mode() & 0o7777 }),
    }
}

/// A user as people know it.
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
