//! A bundle as a commit of git has it. Only plumbing commands that read: neither the work tree nor the index nor any ref
//! is touched, and nothing is fetched.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Command, Stdio};

use super::source::{Found, MOST_FILES, belongs, too_large};
use crate::yaml::MOST_BYTES;

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

/// An entry of a commit's tree.
struct Entry {
    path: String,
    object: String,
    link: bool,
    size: usize,
}

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

    /// The bundle's files, sorted by path.
    pub(super) fn files(&self) -> Result<Vec<Found>, String> {
        let entries = self.entries()?;
        if entries.is_empty() {
            return Err(format!("{self} has no files"));
        }
        let wanted: Vec<&str> =
            entries.values().filter(|entry| !entry.too_large()).map(Entry::object).collect();
        let texts = self.texts(&wanted)?;
        let found = entries.values().filter(|entry| belongs(&entry.path)).map(|entry| {
            let text = self.resolved(entry, &entries, &texts)?;
            let label = format!("{}:{}{}", self.named, self.prefix, entry.path);
            Ok(Found { path: entry.path.clone(), label, text })
        });
        found.collect()
    }

    /// By path below the bundle's folder. Links to folders are not followed: a commit that has one cannot be read whole.
    fn entries(&self) -> Result<BTreeMap<String, Entry>, String> {
        let tree = format!("{}:{}", self.commit, self.prefix.trim_end_matches('/'));
        let listed = asked(&self.folder, &["ls-tree", "-r", "-l", "-z", "--full-tree", &tree])
            .map_err(|reason| format!("{self} cannot be read: {reason}"))?;
        let mut entries = BTreeMap::new();
        for line in listed.split('\0').filter(|line| !line.is_empty()) {
            let (about, path) = line.split_once('\t').ok_or("git lists a tree in another way than it did")?;
            let about: Vec<&str> = about.split_ascii_whitespace().collect();
            let [mode, kind, object, size] = about[..] else {
                return Err("git lists a tree in another way than it did".to_owned());
            };
            let link = mode == "120000";
            let hidden = path.split('/').any(|part| part.starts_with('.'));
            if kind != "blob" || hidden || !(link || belongs(path)) {
                continue;
            }
            let entry = Entry {
                path: path.to_owned(),
                object: object.to_owned(),
                link,
                size: size.parse().unwrap_or(usize::MAX),
            };
            entries.insert(entry.path.clone(), entry);
        }
        if entries.len() > MOST_FILES {
            return Err(format!("{self} has more than {MOST_FILES} files"));
        }
        match entries.values().find(|entry| entry.link && !belongs(&entry.path)) {
            Some(link) => Err(format!("{self} has the link {}, which may be one to a folder", link.path)),
            None => Ok(entries),
        }
    }

    /// What a file says; a link's target, if that is a file of the bundle.
    fn resolved(
        &self,
        entry: &Entry,
        entries: &BTreeMap<String, Entry>,
        texts: &BTreeMap<String, Vec<u8>>,
    ) -> Result<Result<String, String>, String> {
        if entry.too_large() {
            return Ok(Err(too_large()));
        }
        let bytes = texts.get(&entry.object).ok_or_else(|| format!("{self} lacks {}", entry.path))?;
        let text = String::from_utf8(bytes.clone()).map_err(|_| "is not UTF-8".to_owned());
        if !entry.link {
            return Ok(text);
        }
        let target = text.ok().and_then(|target| linked(&entry.path, &target));
        match target.and_then(|target| entries.get(&target)).filter(|target| !target.link) {
            Some(target) => self.resolved(target, entries, texts),
            None => Err(format!("{self} has the link {}, which names no file of it", entry.path)),
        }
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

impl Entry {
    fn object(&self) -> &str {
        &self.object
    }

    fn too_large(&self) -> bool {
        self.size > MOST_BYTES
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

/// Where a link leads, below the bundle's folder; `None` if out of it.
fn linked(path: &str, target: &str) -> Option<String> {
    if target.starts_with('/') {
        return None;
    }
    let mut parts: Vec<&str> = path.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_followed_within_the_bundle_only() {
        let table = [
            ("a/b.yaml", "c.yaml", Some("a/c.yaml")),
            ("a/b.yaml", "../d/./c.yaml", Some("d/c.yaml")),
            ("a/b.yaml", "../../c.yaml", None),
            ("a/b.yaml", "/etc/c.yaml", None),
        ];
        for (path, target, expected) in table {
            assert_eq!(linked(path, target).as_deref(), expected, "{path} -> {target}");
        }
    }
}
