//! A bundle read from a git commit, with read-only plumbing commands.
//!
//! - Promise: changes neither the work tree nor the index nor any ref, and fetches nothing.
//! - Cost: three `git` processes per read: `ls-tree`, then `cat-file --batch` for links and for
//!   files.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Command, Stdio};

use yaml::MAX_YAML_BYTES;

use super::source::{
    BundleSourceFile, MAX_BUNDLE_FILES, MAX_FOLDER_DEPTH, is_bundle_file, too_large_reason,
};

/// Maximum symbolic links resolved for one path, against cycles.
const MAX_LINK_HOPS: usize = 40;

/// A resolved commit and the bundle's folder within it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitRevision {
    /// The bundle's folder in the work tree; git runs with `-C` here.
    folder: PathBuf,
    /// The folder relative to the repository root: empty, or ending with `/`.
    prefix: String,
    /// The revision as the user wrote it.
    spec: String,
    commit: String,
}

/// A node of a commit's tree, below the bundle's folder.
#[derive(Debug)]
enum GitTreeNode {
    Folder(BTreeMap<String, GitTreeNode>),
    File(GitBlob),
    Link(GitBlob),
}

#[derive(Debug, Clone)]
struct GitBlob {
    object_id: String,
    size: usize,
}

/// Path components relative to the bundle's folder.
type GitPathComponents = Vec<String>;

impl GitRevision {
    /// Resolves `spec` to a commit of the repository that contains `folder`.
    pub fn resolve(folder: &Path, spec: &str) -> Result<Self, String> {
        if spec.is_empty() || spec.starts_with('-') || spec.contains(['\0', '\n']) {
            return Err(format!("`{}` names no revision", spec.escape_debug()));
        }
        let commit = format!("{spec}^{{commit}}");
        let commit =
            run_git(folder, &["rev-parse", "--verify", "--quiet", "--end-of-options", &commit]);
        let commit = commit.map_err(|reason| match reason.as_str() {
            "" => format!("the repository of {} has no revision {spec}", folder.display()),
            reason => format!("the revision {spec} cannot be had: {reason}"),
        })?;
        let prefix = run_git(folder, &["rev-parse", "--show-prefix"])?;
        Ok(Self {
            folder: folder.to_owned(),
            prefix: prefix.trim_end_matches('\n').to_owned(),
            spec: spec.to_owned(),
            commit: commit.trim_end_matches('\n').to_owned(),
        })
    }

    /// The commit id in hexadecimal.
    pub fn commit(&self) -> &str {
        &self.commit
    }

    /// The unambiguous name: a full ref such as `refs/heads/main`, otherwise the commit id.
    pub(super) fn full_name(&self) -> String {
        let full = run_git(&self.folder, &["rev-parse", "--symbolic-full-name", &self.spec]);
        let full = full.map(|name| name.trim().to_owned()).ok().filter(|name| !name.is_empty());
        full.unwrap_or_else(|| self.commit.clone())
    }

    /// Reads the bundle's files, sorted by path.
    pub(super) fn read_files(&self) -> Result<Vec<BundleSourceFile>, String> {
        let root = self.read_tree()?;
        let mut links = Vec::new();
        root.collect_links(&mut links);
        let targets = self.read_blobs(&links)?;
        let mut walk = GitTreeWalk { root: &root, link_targets: &targets, files: BTreeMap::new() };
        walk.walk_folder(&GitPathComponents::new(), "", &mut Vec::new())
            .map_err(|reason| format!("{self}: {reason}"))?;
        let blobs = walk.files.values().filter_map(|found| found.as_ref().ok());
        let object_ids: BTreeSet<&str> =
            blobs.filter(|blob| !blob.is_too_large()).map(|blob| blob.object_id.as_str()).collect();
        let texts = self.read_blobs(&object_ids.into_iter().collect::<Vec<_>>())?;
        let found = walk.files.into_iter().map(|(path, found)| {
            let label = format!("{}:{}{path}", self.spec, self.prefix);
            Ok(BundleSourceFile {
                path,
                label,
                text: found.and_then(|blob| blob.decode_text(&texts)),
            })
        });
        found.collect()
    }

    /// Lists the bundle's folder recursively, without file contents.
    fn read_tree(&self) -> Result<GitTreeNode, String> {
        let tree = format!("{}:{}", self.commit, self.prefix.trim_end_matches('/'));
        let listing = run_git(&self.folder, &["ls-tree", "-r", "-l", "-z", "--full-tree", &tree])
            .map_err(|reason| format!("{self} cannot be read: {reason}"))?;
        let mut root = GitTreeNode::Folder(BTreeMap::new());
        for line in listing.split('\0').filter(|line| !line.is_empty()) {
            let (attributes, path) =
                line.split_once('\t').ok_or("git lists a tree in another way than it did")?;
            let attributes: Vec<&str> = attributes.split_ascii_whitespace().collect();
            let [mode, kind, object, size] = attributes[..] else {
                return Err("git lists a tree in another way than it did".to_owned());
            };
            if kind == "blob" {
                let blob = GitBlob {
                    object_id: object.to_owned(),
                    size: size.parse().unwrap_or(usize::MAX),
                };
                let node = if mode == "120000" {
                    GitTreeNode::Link(blob)
                } else {
                    GitTreeNode::File(blob)
                };
                root.insert(path.split('/'), node);
            }
        }
        Ok(root)
    }

    /// Reads blobs by object id, all through one `git cat-file --batch` process.
    fn read_blobs(&self, object_ids: &[&str]) -> Result<BTreeMap<String, Vec<u8>>, String> {
        let mut child = git_command(&self.folder)
            .args(["cat-file", "--batch"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("git: {error}"))?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let lines: String = object_ids.iter().map(|object| format!("{object}\n")).collect();
        let texts = std::thread::scope(|scope| {
            // A thread writes while this one reads: git answers before it has read all input. If
            // git exits early, the read fails and reports it.
            scope.spawn(move || input.map(|mut input| input.write_all(lines.as_bytes())));
            read_blob_contents(BufReader::new(output.ok_or("git has no output")?), object_ids.len())
        });
        let _ = child.kill();
        let _ = child.wait();
        texts.map_err(|reason| format!("{self} cannot be read: {reason}"))
    }
}

impl fmt::Display for GitRevision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let commit = self.commit.get(..12).unwrap_or(&self.commit);
        write!(f, "the bundle {} at {} ({commit})", self.folder.display(), self.spec)
    }
}

impl GitBlob {
    fn is_too_large(&self) -> bool {
        self.size > MAX_YAML_BYTES
    }

    fn decode_text(&self, blobs: &BTreeMap<String, Vec<u8>>) -> Result<String, String> {
        if self.is_too_large() {
            return Err(too_large_reason());
        }
        let bytes = blobs.get(&self.object_id).ok_or("cannot be read: git lacks it")?;
        String::from_utf8(bytes.clone()).map_err(|_| "is not UTF-8".to_owned())
    }
}

impl GitTreeNode {
    fn insert<'p>(&mut self, mut components: impl Iterator<Item = &'p str>, node: GitTreeNode) {
        let Some(name) = components.next() else { return *self = node };
        if let GitTreeNode::Folder(within) = self {
            within
                .entry(name.to_owned())
                .or_insert_with(|| GitTreeNode::Folder(BTreeMap::new()))
                .insert(components, node);
        }
    }

    fn collect_links<'n>(&'n self, object_ids: &mut Vec<&'n str>) {
        match self {
            GitTreeNode::Folder(within) => {
                within.values().for_each(|node| node.collect_links(object_ids))
            }
            GitTreeNode::Link(blob) if !blob.is_too_large() => object_ids.push(&blob.object_id),
            GitTreeNode::Link(_) | GitTreeNode::File(_) => {}
        }
    }

    fn node_at(&self, components: &[String]) -> Option<&GitTreeNode> {
        components.iter().try_fold(self, |node, step| match node {
            GitTreeNode::Folder(within) => within.get(step),
            GitTreeNode::File(_) | GitTreeNode::Link(_) => None,
        })
    }
}

/// Collects files like `FolderWalk` does: follows symbolic links that stay within the folder.
struct GitTreeWalk<'t> {
    root: &'t GitTreeNode,
    /// Link targets by the object id of the link's blob.
    link_targets: &'t BTreeMap<String, Vec<u8>>,
    files: BTreeMap<String, Result<GitBlob, String>>,
}

impl GitTreeWalk<'_> {
    /// `real_path` contains no links; `ancestors` are the real paths of the folders above it.
    fn walk_folder(
        &mut self,
        real_path: &GitPathComponents,
        path: &str,
        ancestors: &mut Vec<GitPathComponents>,
    ) -> Result<(), String> {
        if ancestors.len() >= MAX_FOLDER_DEPTH {
            return Err(format!("folders nested over {MAX_FOLDER_DEPTH} deep ({path})"));
        }
        let Some(GitTreeNode::Folder(within)) = self.root.node_at(real_path) else { return Ok(()) };
        if ancestors.contains(real_path) {
            // A link to an ancestor: following it would not terminate.
            return Ok(());
        }
        ancestors.push(real_path.clone());
        for name in within.keys().filter(|name| !name.starts_with('.')) {
            let below = if path.is_empty() { name.clone() } else { format!("{path}/{name}") };
            let steps = [real_path.as_slice(), std::slice::from_ref(name)].concat();
            let real = self.resolve_links(steps);
            let node = real.as_ref().and_then(|real| self.root.node_at(real));
            match (node, real.as_ref()) {
                (Some(GitTreeNode::Folder(_)), Some(real)) => {
                    self.walk_folder(&real.clone(), &below, ancestors)?
                }
                (Some(GitTreeNode::File(blob)), _) if is_bundle_file(&below) => {
                    self.add_file(below, Ok(blob.clone()))?
                }
                (Some(_), _) => {}
                (None, _) if is_bundle_file(&below) => {
                    self.add_file(
                        below,
                        Err("is a link that leads out of the bundle's folder, or nowhere"
                            .to_owned()),
                    )?;
                }
                (None, _) => {}
            }
        }
        ancestors.pop();
        Ok(())
    }

    fn add_file(&mut self, path: String, blob: Result<GitBlob, String>) -> Result<(), String> {
        if self.files.len() >= MAX_BUNDLE_FILES {
            return Err(format!("more than {MAX_BUNDLE_FILES} files"));
        }
        self.files.insert(path, blob);
        Ok(())
    }

    /// Resolves all links of a path; `None` if it leaves the folder or does not exist.
    fn resolve_links(&self, path: GitPathComponents) -> Option<GitPathComponents> {
        let (mut real, mut remaining, mut links) = (GitPathComponents::new(), path, 0);
        remaining.reverse();
        while let Some(step) = remaining.pop() {
            match step.as_str() {
                "" | "." => continue,
                ".." => drop(real.pop()?),
                _ => real.push(step),
            }
            if let GitTreeNode::Link(blob) = self.root.node_at(&real)? {
                real.pop();
                links += 1;
                let target = std::str::from_utf8(self.link_targets.get(&blob.object_id)?).ok()?;
                if links > MAX_LINK_HOPS || target.starts_with('/') {
                    return None;
                }
                remaining.extend(target.split('/').rev().map(str::to_owned));
            }
        }
        Some(real)
    }
}

/// Parses `git cat-file --batch` output: `count` times `OBJECT blob SIZE\n`, content, `\n`.
fn read_blob_contents(
    mut output: BufReader<ChildStdout>,
    count: usize,
) -> Result<BTreeMap<String, Vec<u8>>, String> {
    let mut texts = BTreeMap::new();
    for _ in 0..count {
        let mut head = String::new();
        output.read_line(&mut head).map_err(|error| error.to_string())?;
        let parts: Vec<&str> = head.split_ascii_whitespace().collect();
        let [object, "blob", size] = parts[..] else {
            return Err(format!("git answered `{}`", head.trim_end()));
        };
        let size: usize = size
            .parse()
            .ok()
            .filter(|size| *size <= MAX_YAML_BYTES)
            .ok_or_else(too_large_reason)?;
        let mut bytes = vec![0; size + 1];
        output.read_exact(&mut bytes).map_err(|error| error.to_string())?;
        bytes.truncate(size);
        texts.insert(object.to_owned(), bytes);
    }
    Ok(texts)
}

/// Runs git and returns its stdout; the error is its stderr.
fn run_git(folder: &Path, args: &[&str]) -> Result<String, String> {
    let output = git_command(folder).args(args).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("git cannot be run: {error}"))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).trim().replace('\n', " "));
    }
    String::from_utf8(output.stdout).map_err(|_| "git answered what is not UTF-8".to_owned())
}

fn git_command(folder: &Path) -> Command {
    let mut command = Command::new("git");
    // Variables inherited from a git hook would select another repository.
    for variable in
        ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_OBJECT_DIRECTORY"]
    {
        command.env_remove(variable);
    }
    command.arg("-C").arg(folder).env("LC_ALL", "C");
    command
        .env("GIT_OPTIONAL_LOCKS", "0")
        .env("GIT_NO_LAZY_FETCH", "1")
        .env("GIT_TERMINAL_PROMPT", "0");
    command
}
