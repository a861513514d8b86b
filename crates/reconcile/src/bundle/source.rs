//! Where a bundle's files come from: a folder, or the program itself.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use crate::yaml::MOST_BYTES;

/// Most files of a bundle.
const MOST_FILES: usize = 10_000;
/// Deepest folder.
const DEEPEST: usize = 16;

/// Which bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// The one in the program.
    Builtin,
    /// The files below a folder.
    Folder(PathBuf),
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
        }
    }
}

/// The files in the program.
pub(super) fn builtin() -> impl Iterator<Item = Found> {
    BUILTIN.iter().map(|(path, text)| Found {
        path: (*path).to_owned(),
        label: format!("built-in:{path}"),
        text: Ok((*text).to_owned()),
    })
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Builtin => f.write_str("the built-in bundle"),
            Place::Folder(folder) => write!(f, "the bundle {}", folder.display()),
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
        let yaml = path.ends_with(".yaml") || path.ends_with(".yml");
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
        return Err(format!("is larger than {most} bytes"));
    }
    String::from_utf8(bytes).map_err(|_| "is not UTF-8".to_owned())
}
