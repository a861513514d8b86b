//! Reading of files that nobody else may read or write, or only write.

use std::fs::OpenOptions;
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use nix::fcntl::OFlag;
use nix::unistd::geteuid;

/// Why a file is not read.
#[derive(Debug, thiserror::Error)]
pub enum PrivateFileError {
    /// It cannot be opened or read.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// A folder, a pipe, a device.
    #[error("is not a regular file")]
    NotRegular,
    /// Another user's file.
    #[error("belongs to user {owner}, neither to this program's user nor to root")]
    ForeignOwner {
        /// The owner's id.
        owner: u32,
    },
    /// Group or others have a permission.
    #[error("is open to others (mode {mode:03o}): chmod 600 it")]
    OpenToOthers {
        /// Permission bits.
        mode: u32,
    },
    /// Group or others may write.
    #[error("may be changed by others (mode {mode:03o}): chmod 644 it")]
    WritableByOthers {
        /// Permission bits.
        mode: u32,
    },
    /// Larger than allowed.
    #[error("is larger than {max_bytes} bytes")]
    TooLarge {
        /// The allowed size.
        max_bytes: u64,
    },
    /// No text.
    #[error("is not UTF-8 text")]
    NotText,
}

/// Reads a file of at most `max_bytes`. Owner and permissions are those of the opened file, so they
/// cannot change before it is read; symbolic links are followed.
pub fn read_private_file(path: &Path, max_bytes: u64) -> Result<String, PrivateFileError> {
    read_checked_file(path, max_bytes, |mode| match mode & 0o077 {
        0 => Ok(()),
        _ => Err(PrivateFileError::OpenToOthers { mode }),
    })
}

/// Like [`read_private_file`], for what others may know and not change, such as certificates.
pub fn read_trusted_file(path: &Path, max_bytes: u64) -> Result<String, PrivateFileError> {
    read_checked_file(path, max_bytes, |mode| match mode & 0o022 {
        0 => Ok(()),
        _ => Err(PrivateFileError::WritableByOthers { mode }),
    })
}

fn read_checked_file(
    path: &Path,
    max_bytes: u64,
    check_mode: impl FnOnce(u32) -> Result<(), PrivateFileError>,
) -> Result<String, PrivateFileError> {
    // Opening a pipe must not wait for its writer.
    let mut options = OpenOptions::new();
    let file = options.read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(PrivateFileError::NotRegular);
    }
    let owner = metadata.uid();
    if owner != 0 && owner != geteuid().as_raw() {
        return Err(PrivateFileError::ForeignOwner { owner });
    }
    check_mode(metadata.mode() & 0o777)?;
    let mut bytes = Vec::new();
    file.take(max_bytes + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max_bytes {
        return Err(PrivateFileError::TooLarge { max_bytes });
    }
    String::from_utf8(bytes).map_err(|_| PrivateFileError::NotText)
}
