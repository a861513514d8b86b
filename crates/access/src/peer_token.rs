//! Tokens that a program presents to its peers, read from a file and again when it changes.

use std::fmt;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, Weak};

use http::HeaderValue;

use crate::follow::{follow_files, read_settled};
use crate::private_file::{PrivateFileError, read_private_file};

/// Maximum size of a token file in bytes.
const MAX_TOKEN_FILE_BYTES: u64 = 8 << 10;

/// Why a token file is not used; holds no secret.
#[derive(Debug, thiserror::Error)]
pub enum TokenFileError {
    /// It cannot be read, or others can read it.
    #[error(transparent)]
    File(#[from] PrivateFileError),
    /// It holds no token, or something beside it.
    #[error("must hold one token of printable characters and nothing else")]
    NoToken,
}

/// A token of a file, which a thread reads again; clones share it. Calls never wait for the file,
/// which may be on a network file system.
#[derive(Clone)]
pub struct TokenFile(Arc<TokenFileState>);

struct TokenFileState {
    path: PathBuf,
    header: RwLock<HeaderValue>,
}

impl fmt::Debug for TokenFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TokenFile").field(&self.0.path).finish()
    }
}

impl TokenFile {
    /// Reads the file, and again every two seconds until all clones are dropped.
    pub fn open(path: &Path) -> Result<Self, TokenFileError> {
        let header = RwLock::new(read_header(path)?);
        let state = Arc::new(TokenFileState { path: path.to_owned(), header });
        let followed = Arc::downgrade(&state);
        // The last error, which is logged once.
        let mut last_error = None;
        follow_files("token-file", move || follow_token_file(&followed, &mut last_error))
            .map_err(PrivateFileError::Io)?;
        Ok(Self(state))
    }

    /// The `Authorization` header with the token, some seconds old at most. While the file cannot be
    /// read, the last token stays.
    pub fn header(&self) -> HeaderValue {
        self.0.header.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn follow_token_file(
    followed: &Weak<TokenFileState>,
    last_error: &mut Option<String>,
) -> ControlFlow<()> {
    let Some(state) = followed.upgrade() else { return ControlFlow::Break(()) };
    let settled = read_settled(
        || read_header(&state.path).map_err(|error| error.to_string()),
        |read| match read {
            Ok(header) => {
                let current = state.header.read().unwrap_or_else(PoisonError::into_inner);
                last_error.is_none() && *current == *header
            }
            Err(error) => last_error.as_ref() == Some(error),
        },
        |one, other| one == other,
    );
    let Some(read) = settled else { return ControlFlow::Continue(()) };
    let error = match read {
        Ok(header) => {
            *state.header.write().unwrap_or_else(PoisonError::into_inner) = header;
            None
        }
        Err(error) => Some(error),
    };
    if error != *last_error
        && let Some(error) = &error
    {
        let path = state.path.display();
        tracing::error!(%path, error, "the token file is refused; its last token stays");
    }
    *last_error = error;
    ControlFlow::Continue(())
}

fn read_header(path: &Path) -> Result<HeaderValue, TokenFileError> {
    let text = read_private_file(path, MAX_TOKEN_FILE_BYTES)?;
    bearer_header(text.trim()).ok_or(TokenFileError::NoToken)
}

/// The `Authorization` header of a token; `None` if it cannot be one.
pub fn bearer_header(token: &str) -> Option<HeaderValue> {
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return None;
    }
    let mut header = HeaderValue::from_str(&format!("Bearer {token}")).ok()?;
    header.set_sensitive(true);
    Some(header)
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_token_file_is_private_and_holds_one_token() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        for (content, mode, is_read) in [
            ("op_canary\n", 0o600, true),
            ("op_canary", 0o400, true),
            ("op_canary\n", 0o640, false),
            ("op_canary\n", 0o604, false),
            ("\n", 0o600, false),
            ("op_canary two", 0o600, false),
        ] {
            let _ = std::fs::remove_file(&path);
            std::fs::write(&path, content).unwrap();
            std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            match TokenFile::open(&path) {
                Ok(file) => {
                    assert_eq!(file.header(), "Bearer op_canary");
                    assert!(is_read && !format!("{file:?} {:?}", file.header()).contains("canary"));
                }
                Err(error) => assert!(!is_read && !error.to_string().contains("canary"), "{error}"),
            }
        }
    }
}
