//! Where a bundle's files come from: a folder, a revision of one, the program itself, or whoever sends them.

use std::collections::HashMap;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::git::Revision;
use super::schemas::FOLDER;
use crate::yaml::MOST_BYTES;

/// Most files of a bundle.
pub(super) const MOST_FILES: usize = 50_000;
/// Deepest folder.
pub(super) const DEEPEST: usize = 16;

/// Which bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// The one in the program.
    Builtin,
    /// The files below a folder.
    Folder(PathBuf),
    /// The files below a folder as a commit has them.
    Revision(Revision),
    /// Files that somebody sent.
    Sent(Arc<[SentFile]>),
}

/// A file that somebody sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SentFile {
    /// Below the bundle's folder, with `/` between the parts.
    pub path: String,
    /// What it says.
    pub text: String,
}

/// A file as it was found.
pub(super) struct Found {
    /// Below the bundle's folder, with `/` between the parts.
    pub(super) path: String,
    /// What it is called in messages.
    pub(super) label: String,
    /// Its text, or why it cannot be had.
    pub(super) text: Result<String, String>,
}

const BUILTIN: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/builtin.rs"));

impl Place {
    /// Its YAML files, sorted by path.
    pub(super) fn files(&self) -> Result<Vec<Found>, String> {
        match self {
            Place::Builtin => Ok(builtin().collect()),
            Place::Folder(folder) => Walk::over(folder),
            Place::Revision(revision) => revision.files(),
            Place::Sent(files) => sent(files),
        }
    }

    /// Whether what [`Place::other`] is given is a folder and a revision alike, and does not say which: how to say it.
    pub fn doubt(&self, named: &str) -> Option<String> {
        let explicit = ["/", "./", "../"].iter().any(|beginning| named.starts_with(beginning));
        let Place::Folder(own) = self else { return None };
        if explicit || named == "." || named == ".." || !Path::new(named).is_dir() {
            return None;
        }
        let name = Revision::of(own, named).ok()?.full_name();
        Some(format!("`{named}` is a folder and a revision: say ./{named} or {name}"))
    }

    /// What `--early-exit-compare` and `--changed-since` name: a folder, or a revision of the folder of this bundle.
    pub fn other(&self, named: &str) -> Result<Self, String> {
        let folder = Path::new(named);
        if folder.is_dir() {
            return Ok(Place::Folder(folder.to_owned()));
        }
        match self {
            Place::Folder(own) => Revision::of(own, named).map(Place::Revision),
            _ => Err(format!("{named} is not a folder, and {self} has no revisions")),
        }
    }
}

/// Whether a name is that of a YAML file, in capitals or not.
fn is_yaml(path: &str) -> bool {
    let extension = path.rsplit_once('.').map_or("", |(_, extension)| extension);
    ["yaml", "yml"].iter().any(|yaml| extension.eq_ignore_ascii_case(yaml))
}

/// Whether a file with this path is one of the bundle's: YAML, and nothing on its way is hidden.
pub(super) fn belongs(path: &str) -> bool {
    is_yaml(path) && path.split('/').all(|part| !part.is_empty() && !part.starts_with('.'))
}

fn sent(files: &[SentFile]) -> Result<Vec<Found>, String> {
    if files.len() > MOST_FILES {
        return Err(format!("more than {MOST_FILES} files"));
    }
    if let Some(other) = files.iter().find(|file| !belongs(&file.path)) {
        let path: String = other.path.chars().take(80).collect();
        return Err(format!("`{path}` is not the path of a YAML file below the bundle's folder"));
    }
    let mut found: Vec<Found> = files.iter().map(Found::of_sent).collect();
    found.sort_by(|a, b| a.path.cmp(&b.path));
    if let Some(pair) = found.windows(2).find(|pair| pair[0].path == pair[1].path) {
        return Err(format!("the file {} is there twice", pair[0].path));
    }
    own_schemas(&mut found)?;
    Ok(found)
}

/// What is sent is judged by the schemas of the program it is sent to: another one's could make judging take for ever. Its copies
/// of them may come along.
fn own_schemas(files: &mut Vec<Found>) -> Result<(), String> {
    let own: HashMap<&str, &str> = BUILTIN.iter().copied().collect();
    let is_schema = |file: &Found| file.path.starts_with(FOLDER);
    let foreign =
        |file: &&Found| is_schema(file) && file.text.as_deref().ok() != own.get(file.path.as_str()).copied();
    if let Some(file) = files.iter().find(foreign) {
        let path: String = file.path.chars().take(80).collect();
        return Err(format!(
            "{path} is not a schema of this program: what is sent is judged by the schemas of the program it is sent to; \
             send the bundle without `{FOLDER}`"
        ));
    }
    files.retain(|file| !is_schema(file));
    Ok(())
}

impl Found {
    fn of_sent(file: &SentFile) -> Self {
        let text = match file.text.len() > MOST_BYTES {
            true => Err(too_large()),
            false => Ok(file.text.clone()),
        };
        Self { path: file.path.clone(), label: file.path.clone(), text }
    }
}

/// Why a file is not read.
pub(super) fn too_large() -> String {
    format!("is larger than {MOST_BYTES} bytes")
}

/// The files in the program.
pub(super) fn builtin() -> impl Iterator<Item = Found> {
    BUILTIN.iter().map(|(path, text)| Found {
        path: (*path).to_owned(),
        label: format!("built-in:{path}"),
        text: Ok((*text).to_owned()),
    })
}

/// The names of the schemas in the program.
pub(super) fn builtin_schemas() -> impl Iterator<Item = String> {
    BUILTIN.iter().filter_map(|(path, _)| path.strip_prefix(FOLDER)).map(|name| format!("/{name}"))
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Builtin => f.write_str("the built-in bundle"),
            Place::Folder(folder) => write!(f, "the bundle {}", folder.display()),
            Place::Revision(revision) => revision.fmt(f),
            Place::Sent(_) => f.write_str("the bundle that was sent"),
        }
    }
}

/// Collects files. Symbolic links are followed as long as they stay within the folder (Kubernetes mounts are made of
/// them); one that leads out of it is an error.
struct Walk<'a> {
    /// As it was named.
    named: &'a Path,
    root: PathBuf,
    found: Vec<Found>,
}

impl<'a> Walk<'a> {
    fn over(folder: &'a Path) -> Result<Vec<Found>, String> {
        let said = |error: io::Error| format!("the bundle {}: {error}", folder.display());
        let root = folder.canonicalize().map_err(said)?;
        let mut walk = Self { named: folder, root: root.clone(), found: Vec::new() };
        walk.folder(&root, "", &mut Vec::new()).map_err(said)?;
        walk.found.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(walk.found)
    }

    /// `real` has no links in it; `above` are the folders it was reached through.
    fn folder(&mut self, real: &Path, path: &str, above: &mut Vec<PathBuf>) -> io::Result<()> {
        if above.len() >= DEEPEST {
            return Err(io::Error::other(format!("folders nested over {DEEPEST} deep ({path})")));
        }
        if above.iter().any(|folder| folder == real) {
            // A link back to a folder that we are in.
            return Ok(());
        }
        above.push(real.to_owned());
        for entry in fs::read_dir(real)? {
            let name = entry?.file_name();
            if name.to_string_lossy().starts_with('.') {
                continue;
            }
            let below = match path {
                "" => name.to_string_lossy().into_owned(),
                path => format!("{path}/{}", name.to_string_lossy()),
            };
            self.entry(&real.join(&name), below, above)?;
        }
        above.pop();
        Ok(())
    }

    fn entry(&mut self, entry: &Path, path: String, above: &mut Vec<PathBuf>) -> io::Result<()> {
        let yaml = is_yaml(&path);
        let (real, kind) = match self.inside(entry) {
            Ok(found) => found,
            Err(reason) if yaml => return self.add(path, Err(reason)),
            Err(_) => return Ok(()),
        };
        match kind {
            kind if kind.is_dir() => self.folder(&real, &path, above),
            kind if kind.is_file() && yaml => self.add(path, read(&real)),
            _ if yaml => self.add(path, Err("is not a plain file".to_owned())),
            _ => Ok(()),
        }
    }

    /// What an entry really is, if it lies within the folder.
    fn inside(&self, entry: &Path) -> Result<(PathBuf, fs::FileType), String> {
        let real = entry.canonicalize().map_err(|error| format!("cannot be read: {error}"))?;
        if !real.starts_with(&self.root) {
            return Err("is a link that leads out of the bundle's folder".to_owned());
        }
        let kind = fs::metadata(&real).map_err(|error| format!("cannot be read: {error}"))?.file_type();
        Ok((real, kind))
    }

    fn add(&mut self, path: String, text: Result<String, String>) -> io::Result<()> {
        if self.found.len() >= MOST_FILES {
            return Err(io::Error::other(format!("more than {MOST_FILES} files")));
        }
        let label = self.named.join(&path).display().to_string();
        self.found.push(Found { path, label, text });
        Ok(())
    }
}

fn read(file: &Path) -> Result<String, String> {
    let mut bytes = Vec::new();
    let most = MOST_BYTES as u64;
    let read = File::open(file).and_then(|file| file.take(most + 1).read_to_end(&mut bytes));
    read.map_err(|error| format!("cannot be read: {error}"))?;
    if bytes.len() as u64 > most {
        return Err(too_large());
    }
    String::from_utf8(bytes).map_err(|_| "is not UTF-8".to_owned())
}
