//! A bundle as a commit of git has it. Only plumbing commands that read: neither the work tree nor the index nor any ref
//! is touched, and nothing is fetched.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Command, Stdio};

use super::source::{DEEPEST, Found, MOST_FILES, belongs, too_large};
use crate::yaml::MOST_BYTES;

/// Links that lead to each other before it is a circle.
const MAX_LINKS: usize = 40;

/// A commit, and the folder of the bundle within it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revision {
    /// The bundle's folder as it is now: its repository is asked.
    folder: PathBuf,
    /// The folder within the repository: empty, or ending with `/`.
    prefix: String,
    /// As it was named.
    named: String,
    commit: String,
}

/// What lies in a commit's folder.
#[derive(Debug)]
enum Node {
    Folder(BTreeMap<String, Node>),
    File(Blob),
    Link(Blob),
}

#[derive(Debug, Clone)]
struct Blob {
    object: String,
    size: usize,
}

/// Steps from the bundle's folder down.
type Steps = Vec<String>;

impl Revision {
    /// What `named` is in the repository in which `folder` lies.
    pub fn of(folder: &Path, named: &str) -> Result<Self, String> {
        if named.is_empty() || named.starts_with('-') || named.contains(['\0', '\n']) {
            return Err(format!("`{}` names no revision", named.escape_debug()));
        }
        let commit = format!("{named}^{{commit}}");
        let commit = asked(folder, &["rev-parse", "--verify", "--quiet", "--end-of-options", &commit]);
        let commit = commit.map_err(|reason| match reason.as_str() {
            "" => format!("the repository of {} has no revision {named}", folder.display()),
            reason => format!("the revision {named} cannot be had: {reason}"),
        })?;
        let prefix = asked(folder, &["rev-parse", "--show-prefix"])?;
        let line = |text: String| text.trim_end_matches('\n').to_owned();
        Ok(Self {
            folder: folder.to_owned(),
            prefix: line(prefix),
            named: named.to_owned(),
            commit: line(commit),
        })
    }

    /// The commit's name.
    pub fn commit(&self) -> &str {
        &self.commit
    }

    /// As it is called in full: `refs/heads/main`, or the commit.
    pub(super) fn full_name(&self) -> String {
        let full = asked(&self.folder, &["rev-parse", "--symbolic-full-name", &self.named]);
        let full = full.map(|name| name.trim().to_owned()).ok().filter(|name| !name.is_empty());
        full.unwrap_or_else(|| self.commit.clone())
    }

    /// The bundle's files, sorted by path.
    pub(super) fn files(&self) -> Result<Vec<Found>, String> {
        let root = self.tree()?;
        let mut links = Vec::new();
        root.links(&mut links);
        let targets = self.texts(&links)?;
        let mut walk = Walk { root: &root, targets: &targets, found: BTreeMap::new() };
        walk.folder(&Steps::new(), "", &mut Vec::new()).map_err(|reason| format!("{self}: {reason}"))?;
        let blobs = walk.found.values().filter_map(|found| found.as_ref().ok());
        let wanted: BTreeSet<&str> =
            blobs.filter(|blob| !blob.too_large()).map(|blob| blob.object.as_str()).collect();
        let texts = self.texts(&wanted.into_iter().collect::<Vec<_>>())?;
        let found = walk.found.into_iter().map(|(path, found)| {
            let label = format!("{}:{}{path}", self.named, self.prefix);
            Ok(Found { path, label, text: found.and_then(|blob| blob.text(&texts)) })
        });
        found.collect()
    }

    /// Everything in the bundle's folder.
    fn tree(&self) -> Result<Node, String> {
        let tree = format!("{}:{}", self.commit, self.prefix.trim_end_matches('/'));
        let listed = asked(&self.folder, &["ls-tree", "-r", "-l", "-z", "--full-tree", &tree])
            .map_err(|reason| format!("{self} cannot be read: {reason}"))?;
        let mut root = Node::Folder(BTreeMap::new());
        for line in listed.split('\0').filter(|line| !line.is_empty()) {
            let (about, path) = line.split_once('\t').ok_or("git lists a tree in another way than it did")?;
            let about: Vec<&str> = about.split_ascii_whitespace().collect();
            let [mode, kind, object, size] = about[..] else {
                return Err("git lists a tree in another way than it did".to_owned());
            };
            if kind == "blob" {
                let blob = Blob { object: object.to_owned(), size: size.parse().unwrap_or(usize::MAX) };
                let node = if mode == "120000" { Node::Link(blob) } else { Node::File(blob) };
                root.put(path.split('/'), node);
            }
        }
        Ok(root)
    }

    /// The contents of objects, by their names: all through one process.
    fn texts(&self, objects: &[&str]) -> Result<BTreeMap<String, Vec<u8>>, String> {
        let mut child = git(&self.folder)
            .args(["cat-file", "--batch"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("git: {error}"))?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let lines: String = objects.iter().map(|object| format!("{object}\n")).collect();
        let texts = std::thread::scope(|scope| {
            // It answers while it is being asked; when it gives up, reading says so.
            scope.spawn(move || input.map(|mut input| input.write_all(lines.as_bytes())));
            read_objects(BufReader::new(output.ok_or("git has no output")?), objects.len())
        });
        let _ = child.kill();
        let _ = child.wait();
        texts.map_err(|reason| format!("{self} cannot be read: {reason}"))
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let commit = self.commit.get(..12).unwrap_or(&self.commit);
        write!(f, "the bundle {} at {} ({commit})", self.folder.display(), self.named)
    }
}

impl Blob {
    fn too_large(&self) -> bool {
        self.size > MOST_BYTES
    }

    fn text(&self, texts: &BTreeMap<String, Vec<u8>>) -> Result<String, String> {
        if self.too_large() {
            return Err(too_large());
        }
        let bytes = texts.get(&self.object).ok_or("cannot be read: git lacks it")?;
        String::from_utf8(bytes.clone()).map_err(|_| "is not UTF-8".to_owned())
    }
}

impl Node {
    fn put<'p>(&mut self, mut path: impl Iterator<Item = &'p str>, node: Node) {
        let Some(name) = path.next() else { return *self = node };
        if let Node::Folder(within) = self {
            within.entry(name.to_owned()).or_insert_with(|| Node::Folder(BTreeMap::new())).put(path, node);
        }
    }

    fn links<'n>(&'n self, found: &mut Vec<&'n str>) {
        match self {
            Node::Folder(within) => within.values().for_each(|node| node.links(found)),
            Node::Link(blob) if !blob.too_large() => found.push(&blob.object),
            Node::Link(_) | Node::File(_) => {}
        }
    }

    fn at(&self, steps: &[String]) -> Option<&Node> {
        steps.iter().try_fold(self, |node, step| match node {
            Node::Folder(within) => within.get(step),
            Node::File(_) | Node::Link(_) => None,
        })
    }
}

/// Collects files as the walk over a folder does: links are followed within it.
struct Walk<'t> {
    root: &'t Node,
    /// What links say, by their objects.
    targets: &'t BTreeMap<String, Vec<u8>>,
    found: BTreeMap<String, Result<Blob, String>>,
}

impl Walk<'_> {
    /// `real` has no links in it; `above` are the folders it was reached through.
    fn folder(&mut self, real: &Steps, path: &str, above: &mut Vec<Steps>) -> Result<(), String> {
        if above.len() >= DEEPEST {
            return Err(format!("folders nested over {DEEPEST} deep ({path})"));
        }
        let Some(Node::Folder(within)) = self.root.at(real) else { return Ok(()) };
        if above.contains(real) {
            // A link back to a folder that we are in.
            return Ok(());
        }
        above.push(real.clone());
        for name in within.keys().filter(|name| !name.starts_with('.')) {
            let below = if path.is_empty() { name.clone() } else { format!("{path}/{name}") };
            let steps = [real.as_slice(), std::slice::from_ref(name)].concat();
            let real = self.real(steps);
            let node = real.as_ref().and_then(|real| self.root.at(real));
            match (node, real.as_ref()) {
                (Some(Node::Folder(_)), Some(real)) => self.folder(&real.clone(), &below, above)?,
                (Some(Node::File(blob)), _) if belongs(&below) => self.add(below, Ok(blob.clone()))?,
                (Some(_), _) => {}
                (None, _) if belongs(&below) => {
                    self.add(
                        below,
                        Err("is a link that leads out of the bundle's folder, or nowhere".to_owned()),
                    )?;
                }
                (None, _) => {}
            }
        }
        above.pop();
        Ok(())
    }

    fn add(&mut self, path: String, blob: Result<Blob, String>) -> Result<(), String> {
        if self.found.len() >= MOST_FILES {
            return Err(format!("more than {MOST_FILES} files"));
        }
        self.found.insert(path, blob);
        Ok(())
    }

    /// Where a path leads, links followed; `None` if out of the folder or nowhere.
    fn real(&self, path: Steps) -> Option<Steps> {
        let (mut real, mut rest, mut links) = (Steps::new(), path, 0);
        rest.reverse();
        while let Some(step) = rest.pop() {
            match step.as_str() {
                "" | "." => continue,
                ".." => drop(real.pop()?),
                _ => real.push(step),
            }
            if let Node::Link(blob) = self.root.at(&real)? {
                real.pop();
                links += 1;
                let target = std::str::from_utf8(self.targets.get(&blob.object)?).ok()?;
                if links > MAX_LINKS || target.starts_with('/') {
                    return None;
                }
                rest.extend(target.split('/').rev().map(str::to_owned));
            }
        }
        Some(real)
    }
}

/// `NAME blob SIZE`, a line feed, the bytes, a line feed; so often.
fn read_objects(
    mut output: BufReader<ChildStdout>,
    count: usize,
) -> Result<BTreeMap<String, Vec<u8>>, String> {
    let said = |error: std::io::Error| error.to_string();
    let mut texts = BTreeMap::new();
    for _ in 0..count {
        let mut head = String::new();
        output.read_line(&mut head).map_err(said)?;
        let parts: Vec<&str> = head.split_ascii_whitespace().collect();
        let [object, "blob", size] = parts[..] else {
            return Err(format!("git answered `{}`", head.trim_end()));
        };
        let size: usize = size.parse().ok().filter(|size| *size <= MOST_BYTES).ok_or_else(too_large)?;
        let mut bytes = vec![0; size + 1];
        output.read_exact(&mut bytes).map_err(said)?;
        bytes.truncate(size);
        texts.insert(object.to_owned(), bytes);
    }
    Ok(texts)
}

/// What git answers; an error is what it complains of.
fn asked(folder: &Path, args: &[&str]) -> Result<String, String> {
    let output = git(folder).args(args).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("git cannot be run: {error}"))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).trim().replace('\n', " "));
    }
    String::from_utf8(output.stdout).map_err(|_| "git answered what is not UTF-8".to_owned())
}

fn git(folder: &Path) -> Command {
    let mut command = Command::new("git");
    // What a hook or another repository's command left in the environment must not lead elsewhere.
    for variable in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_OBJECT_DIRECTORY"] {
        command.env_remove(variable);
    }
    command.arg("-C").arg(folder).env("LC_ALL", "C");
    command.env("GIT_OPTIONAL_LOCKS", "0").env("GIT_NO_LAZY_FETCH", "1").env("GIT_TERMINAL_PROMPT", "0");
    command
}
