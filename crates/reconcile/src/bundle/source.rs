//! Bundle sources: a folder, a git revision of a folder, the built-in bundle, or
//! files in a request.

use std::collections::HashMap;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use yaml::MAX_YAML_BYTES;

use super::git::GitRevision;
use super::schemas::SCHEMA_FOLDER;

/// Maximum number of files in a bundle.
pub(super) const MAX_BUNDLE_FILES: usize = 50_000;
/// Maximum nesting of folders.
pub(super) const MAX_FOLDER_DEPTH: usize = 16;

/// Where a bundle's files come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BundleSource {
    /// The bundle compiled into the program.
    Builtin,
    /// The YAML files below a folder.
    Folder(PathBuf),
    /// The YAML files below a folder as of a git commit.
    Revision(GitRevision),
    /// Files received in a request.
    Sent(Arc<[SentFile]>),
}

/// A bundle file received in a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SentFile {
    /// Path relative to the bundle's folder, with `/` as separator.
    pub path: String,
    /// The content, at most [`MAX_YAML_BYTES`].
    pub text: String,
}

/// A file before parsing.
pub(super) struct BundleSourceFile {
    /// Path relative to the bundle's folder, with `/` as separator.
    pub(super) path: String,
    /// The file's name in messages.
    pub(super) label: String,
    /// The content, or why it cannot be read.
    pub(super) text: Result<String, String>,
}

const BUILTIN_FILES: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/builtin.rs"));

impl BundleSource {
    /// Reads all YAML files, sorted by path.
    pub(super) fn read_files(&self) -> Result<Vec<BundleSourceFile>, String> {
        match self {
            BundleSource::Builtin => Ok(builtin_files().collect()),
            BundleSource::Folder(folder) => FolderWalk::read_folder(folder),
            BundleSource::Revision(revision) => revision.read_files(),
            BundleSource::Sent(files) => read_sent_files(files),
        }
    }

    /// If `spec` of [`BundleSource::resolve_other`] is both a folder and a revision: a message
    /// with the unambiguous spellings.
    pub fn explain_ambiguity(&self, spec: &str) -> Option<String> {
        let explicit = ["/", "./", "../"].iter().any(|beginning| spec.starts_with(beginning));
        let BundleSource::Folder(own) = self else { return None };
        if explicit || spec == "." || spec == ".." || !Path::new(spec).is_dir() {
            return None;
        }
        let name = GitRevision::resolve(own, spec).ok()?.full_name();
        Some(format!("`{spec}` is a folder and a revision: say ./{spec} or {name}"))
    }

    /// Resolves the value of `--early-exit-compare` or `--changed-since`: a folder, or a git
    /// revision of this bundle's folder.
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

/// Whether the file name ends in `.yaml` or `.yml`, ignoring case.
fn is_yaml(path: &str) -> bool {
    let extension = path.rsplit_once('.').map_or("", |(_, extension)| extension);
    ["yaml", "yml"].iter().any(|yaml| extension.eq_ignore_ascii_case(yaml))
}

/// Whether the path is a bundle file: YAML, and no component is empty or hidden.
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

/// Removes copies of the built-in schemas and rejects other schemas: received files are validated
/// against built-in schemas only, because a foreign schema could make validation arbitrarily slow.
fn remove_own_schemas(files: &mut Vec<BundleSourceFile>) -> Result<(), String> {
    let own_schemas: HashMap<&str, &str> = BUILTIN_FILES.iter().copied().collect();
    for file in files.iter().filter(|file| is_schema_file(file)) {
        if file.text.as_deref().ok() == own_schemas.get(file.path.as_str()).copied() {
            continue;
        }
        let path: String = file.path.chars().take(80).collect();
        return Err(format!(
            "{path} is not a schema of this program: what is sent is judged by the schemas of the program it is sent to; \
             send the bundle without `{SCHEMA_FOLDER}`"
        ));
    }
    files.retain(|file| !is_schema_file(file));
    Ok(())
}

fn is_schema_file(file: &BundleSourceFile) -> bool {
    file.path.starts_with(SCHEMA_FOLDER)
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

/// The reason for not reading a large file.
pub(super) fn too_large_reason() -> String {
    format!("is larger than {MAX_YAML_BYTES} bytes")
}

/// The files compiled into the program.
pub(super) fn builtin_files() -> impl Iterator<Item = BundleSourceFile> {
    BUILTIN_FILES.iter().map(|(path, text)| BundleSourceFile {
        path: (*path).to_owned(),
        label: format!("built-in:{path}"),
        text: Ok((*text).to_owned()),
    })
}

/// The names of the built-in schemas.
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

/// Recursive reader of a folder. Follows symbolic links that stay within the folder (Kubernetes
/// mounts consist of them); a YAML link that leads out of it is an error.
struct FolderWalk<'a> {
    /// The folder as the user wrote it, for messages.
    given_path: &'a Path,
    root: PathBuf,
    files: Vec<BundleSourceFile>,
}

impl<'a> FolderWalk<'a> {
    fn read_folder(folder: &'a Path) -> Result<Vec<BundleSourceFile>, String> {
        let root = folder.canonicalize().map_err(|error| folder_reason(folder, &error))?;
        let mut walk = Self { given_path: folder, root: root.clone(), files: Vec::new() };
        walk.walk_folder(&root, "", &mut Vec::new())
            .map_err(|error| folder_reason(folder, &error))?;
        walk.files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(walk.files)
    }

    /// `real_path` contains no links; `ancestors` are the real paths of the folders above it.
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
            // A link to an ancestor: following it would not terminate.
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

    /// Canonical path and file type of an entry; an error if it lies outside the folder.
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

fn folder_reason(folder: &Path, error: &io::Error) -> String {
    format!("the bundle {}: {error}", folder.display())
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
