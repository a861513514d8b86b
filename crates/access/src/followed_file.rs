//! Files that are read again while the program runs, and replace what they said when they change.

use std::fmt::Display;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use crate::follow::{follow_files, read_settled};
use crate::token::TokenHash;

/// What kind of file is followed.
#[derive(Debug)]
pub(crate) struct FollowedFileKind {
    /// In log lines, such as `clients file`.
    pub(crate) name: &'static str,
    /// Name of the thread.
    pub(crate) thread: &'static str,
    /// Counter of changes, by outcome.
    pub(crate) loads_metric: &'static str,
    /// Gauge: whether the content is in force.
    pub(crate) is_current_metric: &'static str,
}

/// Reads the text of a file.
type ReadFile = fn(&Path) -> Result<String, String>;
/// Puts a text into force and returns the number of entries; a wrong text changes nothing.
type ApplyText = Box<dyn FnMut(&str) -> Result<usize, String> + Send>;

/// Follows a file for the life of the process.
pub(crate) struct FileFollower {
    kind: &'static FollowedFileKind,
    path: PathBuf,
    read: ReadFile,
    apply: ApplyText,
    /// What was in the file when it was last applied or refused; `None` before the start.
    seen: Option<ContentKey>,
    /// Whether what is in force is that of the file.
    is_current: bool,
}

/// Identifies what was read: the hash of the text, or the error.
#[derive(Debug, Clone, PartialEq, Eq)]
enum ContentKey {
    Text(TokenHash),
    Unreadable(String),
}

fn content_key(read: &Result<String, String>) -> ContentKey {
    match read {
        Ok(text) => ContentKey::Text(TokenHash::of_token(text.as_bytes())),
        Err(error) => ContentKey::Unreadable(error.clone()),
    }
}

impl FileFollower {
    pub(crate) fn new<E: Display>(
        kind: &'static FollowedFileKind,
        path: &Path,
        read: ReadFile,
        mut apply: impl FnMut(&str) -> Result<usize, E> + Send + 'static,
    ) -> Self {
        let apply: ApplyText = Box::new(move |text| apply(text).map_err(|error| error.to_string()));
        Self { kind, path: path.to_owned(), read, apply, seen: None, is_current: true }
    }

    /// Puts the file into force and follows it from now on.
    pub(crate) fn start(mut self) -> Result<(), String> {
        let text = (self.read)(&self.path)?;
        (self.apply)(&text)?;
        self.seen = Some(content_key(&Ok(text)));
        follow_files(self.kind.thread, move || self.read_again())
            .map_err(|error| format!("cannot be followed: {error}"))
    }

    fn read_again(&mut self) -> ControlFlow<()> {
        let settled = read_settled(
            || (self.read)(&self.path),
            |read| self.seen.as_ref() == Some(&content_key(read)),
            |one, other| one == other,
        );
        if let Some(read) = settled {
            self.take(read);
        }
        // Set each time: the recorder is installed after the first.
        let value = if self.is_current { 1.0 } else { 0.0 };
        metrics::gauge!(self.kind.is_current_metric).set(value);
        ControlFlow::Continue(())
    }

    /// Puts what was read into force, if it is new and right.
    pub(crate) fn take(&mut self, read: Result<String, String>) {
        let key = Some(content_key(&read));
        if key == self.seen {
            return;
        }
        self.seen = key;
        let (path, kind) = (self.path.display(), self.kind);
        match read.and_then(|text| (self.apply)(&text)) {
            Ok(entries) => {
                self.is_current = true;
                metrics::counter!(kind.loads_metric, "outcome" => "loaded").increment(1);
                tracing::info!(%path, entries, "the {} has changed and is in force", kind.name);
            }
            Err(error) => {
                self.is_current = false;
                metrics::counter!(kind.loads_metric, "outcome" => "refused").increment(1);
                tracing::error!(
                    %path, error, code = "VALIDATION_ERROR",
                    "the new {} is refused; the old one stays in force", kind.name
                );
            }
        }
    }
}
