//! Where a bundle's files come from: a folder, a revision of one, the program itself, or whoever sends them.

use std::collections::HashMap;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::git::GitRevision;
use super::schemas::SCHEMA_FOLDER;
use crate::yaml::MAX_YAML_BYTES;

/// Most files of a bundle.
pub(super) const MAX_BUNDLE_FILES: usize = 50_000;
/// Deepest folder.
pub(super) const MAX_FOLDER_DEPTH: usize = 16;

/// Which bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BundleSource {
    /// The one in the program.
    Builtin,
    /// The files below a folder.
    Folder(PathBuf),
    /// The files below a folder as a commit has them.
    Revision(GitRevision),
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
pub(super) struct BundleSourceFile {
    /// Below the bundle's folder, with `/` between the parts.
    pub(super) path: String,
    /// What it is called in messages.
    pub(super) label: String,
    /// Its text, or why it cannot be had.
    pub(super) text: Result<String, String>,
}

const BUILTIN_FILES: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/builtin.rs"));

impl BundleSource {
    /// Its YAML files, sorted by path.
    pub(super) fn read_files(&self) -> Result<Vec<BundleSourceFile>, String> {
        match self {
            BundleSource::Builtin => Ok(builtin_files().collect()),
            BundleSource::Folder(folder) => FolderWalk::read_folder(folder),
            BundleSource::Revision(revision) => revision.read_files(),
            BundleSource::Sent(files) => read_sent_files(files),
        }
    }

    /// Whether what [`BundleSource::other`] is given is a folder and a revision alike, and does not say which: how to say it.
    pub fn explain_ambiguity(&self, spec: &str) -> Option<String> {
        let explicit = ["/", "./", "../"].iter().any(|beginning| spec.starts_with(beginning));
        let BundleSource::Folder(own) = self else { return None };
        if explicit || spec == "." || spec == ".." || !Path::new(spec).is_dir() {
            return None;
        }
        let name = GitRevision::resolve(own, spec).ok()?.full_name();
        Some(format!("`{spec}` is a folder and a revision: say ./{spec} or {name}"))
    }

    /// What `--early-exit-compare` and `--changed-since` name: a folder, or a revision of the folder of this bundle.
    pub fn resolve_other(&self, spec: &str) -> Result<Self, String> {
        let folder = Path::new(spec);
        if folder.is_dir() {
            return Ok(BundleSource::Folder(folder.to_owned()));
        }
        match self {
            BundleSource::Folder(own) => {
                GitRevision::resolve(own, spec).map(BundleSource::Revision)
            }
            _ => Err(format!("{spec} is not a folder, and {self} has no revisions")),
        }
    }
}

/// Whether a name is that of a YAML file, in capitals or not.
fn is_yaml(path: &str) -> bool {
    let extension = path.rsplit_once('.').map_or("", |(_, extension)| extension);
    ["yaml", "yml"].iter().any(|yaml| extension.eq_ignore_ascii_case(yaml))
}

/// Whether a file with this path is one of the bundle's: YAML, and nothing on its way is hidden.
pub(super) fn is_bundle_file(path: &str) -> bool {
    is_yaml(path) && path.split('/').all(|part| !part.is_empty() && !part.starts_with('.'))
}

fn read_sent_files(files: &[SentFile]) -> Result<Vec<BundleSourceFile>, String> {
    if files.len() > MAX_BUNDLE_FILES {
        return Err(format!("more than {MAX_BUNDLE_FILES} files"));
    }
    if let Some(invalid) = files.iter().find(|file| !is_bundle_file(&file.path)) {
        let path: String = invalid.path.chars().take(80).collect();
        return Err(format!("`{path}` is not the path of a YAML file below the bundle's folder"));
    }
    let mut found: Vec<BundleSourceFile> = files.iter().map(BundleSourceFile::from_sent).collect();
    found.sort_by(|a, b| a.path.cmp(&b.path));
    if let Some(pair) = found.windows(2).find(|pair| pair[0].path == pair[1].path) {
        return Err(format!("the file {} is there twice", pair[0].path));
    }
    remove_own_schemas(&mut found)?;
    Ok(found)
}

/// What is sent is judged by the schemas of the program it is sent to: another one's could make judging take for ever. Its copies
/// of them may come along.
fn remove_own_schemas(files: &mut Vec<BundleSourceFile>) -> Result<(), String> {
    let own_schemas: HashMap<&str, &str> = BUILTIN_FILES.iter().copied().collect();
    let is_schema = |file: &BundleSourceFile| file.path.starts_with(SCHEMA_FOLDER);
    let is_foreign = |file: &&BundleSourceFile| {
        is_schema(file) && file.text.as_deref().ok() != own_schemas.get(file.path.as_str()).copied()
    };
    if let Some(file) = files.iter().find(is_foreign) {
        let path: String = file.path.chars().take(80).collect();
        return Err(format!(
            "{path} is not a schema of this program: what is sent is judged by the schemas of the program it is sent to; \
             send the bundle without `{SCHEMA_FOLDER}`"
        ));
    }
    files.retain(|file| !is_schema(file));
    Ok(())
}

impl BundleSourceFile {
    fn from_sent(file: &SentFile) -> Self {
        let text = match file.text.len() > MAX_YAML_BYTES {
            true => Err(too_large_reason()),
            false => Ok(file.text.clone()),
        };
        Self { path: file.path.clone(), label: file.path.clone(), text }
    }
}

/// Why a file is not read.
pub(super) fn too_large_reason() -> String {
    format!("is larger than {MAX_YAML_BYTES} bytes")
}

/// The files in the program.
pub(super) fn builtin_files() -> impl Iterator<Item = BundleSourceFile> {
    BUILTIN_FILES.iter().map(|(path, text)| BundleSourceFile {
        path: (*path).to_owned(),
        label: format!("built-in:{path}"),
        text: Ok((*text).to_owned()),
    })
}

/// The names of the schemas in the program.
pub(super) fn builtin_schema_names() -> impl Iterator<Item = String> {
    BUILTIN_FILES
        .iter()
        .filter_map(|(path, _)| path.strip_prefix(SCHEMA_FOLDER))
        .map(|name| format!("/{name}"))
}

impl fmt::Display for BundleSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BundleSource::Builtin => f.write_str("the built-in bundle"),
            BundleSource::Folder(folder) => write!(f, "the bundle {}", folder.display()),
            BundleSource::Revision(revision) => revision.fmt(f),
            BundleSource::Sent(_) => f.write_str("the bundle that was sent"),
        }
    }
}

/// Collects files. Symbolic links are followed as long as they stay within the folder (Kubernetes mounts are made of
/// them); one that leads out of it is an error.
struct FolderWalk<'a> {
    /// As it was named.
    given_path: &'a Path,
    root: PathBuf,
    files: Vec<BundleSourceFile>,
}

impl<'a> FolderWalk<'a> {
    fn read_folder(folder: &'a Path) -> Result<Vec<BundleSourceFile>, String> {
        let to_io_error = |error: io::Error| format!("the bundle {}: {error}", folder.display());
        let root = folder.canonicalize().map_err(to_io_error)?;
        let mut walk = Self { given_path: folder, root: root.clone(), files: Vec::new() };
        walk.walk_folder(&root, "", &mut Vec::new()).map_err(to_io_error)?;
        walk.files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(walk.files)
    }

    /// `real_path` has no links in it; `ancestors` are the folders it was reached through.
    fn walk_folder(
        &mut self,
        real_path: &Path,
        path: &str,
        ancestors: &mut Vec<PathBuf>,
    ) -> io::Result<()> {
        if ancestors.len() >= MAX_FOLDER_DEPTH {
            return Err(io::Error::other(format!(
                "folders nested over {MAX_FOLDER_DEPTH} deep ({path})"
            )));
        }
        if ancestors.iter().any(|folder| folder == real_path) {
            // A link back to a folder that we are in.
            return Ok(());
        }
        ancestors.push(real_path.to_owned());
        for entry in fs::read_dir(real_path)? {
            let name = entry?.file_name();
            if name.to_string_lossy().starts_with('.') {
                continue;
            }
            let below = match path {
                "" => name.to_string_lossy().into_owned(),
                path => format!("{path}/{}", name.to_string_lossy()),
            };
            self.visit_entry(&real_path.join(&name), below, ancestors)?;
        }
        ancestors.pop();
        Ok(())
    }

    fn visit_entry(
        &mut self,
        entry: &Path,
        path: String,
        ancestors: &mut Vec<PathBuf>,
    ) -> io::Result<()> {
        let yaml = is_yaml(&path);
        let (real, kind) = match self.resolve_entry(entry) {
            Ok(found) => found,
            Err(reason) if yaml => return self.add_file(path, Err(reason)),
            Err(_) => return Ok(()),
        };
        match kind {
            kind if kind.is_dir() => self.walk_folder(&real, &path, ancestors),
            kind if kind.is_file() && yaml => self.add_file(path, read_text(&real)),
            _ if yaml => self.add_file(path, Err("is not a plain file".to_owned())),
            _ => Ok(()),
        }
    }

    /// What an entry really is, if it lies within the folder.
    fn resolve_entry(&self, entry: &Path) -> Result<(PathBuf, fs::FileType), String> {
        let real = entry.canonicalize().map_err(|error| format!("cannot be read: {error}"))?;
        if !real.starts_with(&self.root) {
            return Err("is a link that leads out of the bundle's folder".to_owned());
        }
        let kind =
            fs::metadata(&real).map_err(|error| format!("cannot be read: {error}"))?.file_type();
        Ok((real, kind))
    }

    fn add_file(&mut self, path: String, text: Result<String, String>) -> io::Result<()> {
        if self.files.len() >= MAX_BUNDLE_FILES {
            return Err(io::Error::other(format!("more than {MAX_BUNDLE_FILES} files")));
        }
        let label = self.given_path.join(&path).display().to_string();
        self.files.push(BundleSourceFile { path, label, text });
        Ok(())
    }
}

fn read_text(file: &Path) -> Result<String, String> {
    let mut bytes = Vec::new();
    let max_bytes = MAX_YAML_BYTES as u64;
    let read = File::open(file).and_then(|file| file.take(max_bytes + 1).read_to_end(&mut bytes));
    read.map_err(|error| format!("cannot be read: {error}"))?;
    if bytes.len() as u64 > max_bytes {
        return Err(too_large_reason());
    }
    String::from_utf8(bytes).map_err(|_| "is not UTF-8".to_owned())
}
