//! Reading a bundle: every file judged by its schema, on all cores; what another bundle has already judged is taken over.

use std::collections::{BTreeSet, HashMap};
use std::num::NonZero;
use std::sync::Arc;

use super::inputs::Entry;
use super::schemas::{self, Schemas};
use super::source::{self, Found, Place};
use super::{Bundle, Document};
use crate::diagnostic::{listed, suggestion};
use crate::digest::{self, Digest};
use crate::{Diagnostic, Field, yaml};

/// Where the integrations' metadata lies.
pub(super) const INTEGRATIONS: &str = "integrations/";
/// Files that are not worth another thread.
const FEW: usize = 200;

/// What a file was found to be.
enum Judged {
    /// It keeps to its schema.
    Sound(Arc<Document>),
    /// It does not; its schema, and its name if it has one.
    Broken { schema: String, name: Option<String>, wrong: Vec<Diagnostic> },
    /// Not even its schema is known.
    Unreadable(Vec<Diagnostic>),
}

/// What another bundle made of its files, by path and fingerprint.
type Known<'b> = HashMap<(&'b str, &'b Digest), &'b Arc<Document>>;

impl Bundle {
    /// Reads the bundle. An error only if there is none.
    pub fn read(place: Place) -> Result<Self, String> {
        Self::read_beside(place, None)
    }

    /// Reads a bundle that has most of its files in common with `other`.
    pub fn read_beside(place: Place, other: Option<&Bundle>) -> Result<Self, String> {
        let mut files = place.files()?;
        refuse_empty(&place, &files)?;
        for folder in [schemas::FOLDER, INTEGRATIONS] {
            if !files.iter().any(|file| file.path.starts_with(folder)) {
                files.extend(source::builtin().filter(|file| file.path.starts_with(folder)));
            }
        }
        let mut wrong = Vec::new();
        let schemas = Schemas::read(&files, &mut wrong);
        let digests: Vec<Digest> = files.iter().map(Found::digest).collect();
        let same_schemas = other.is_some_and(|other| {
            let ours = files.iter().zip(&digests).map(|(file, digest)| (file.path.as_str(), digest));
            other.schema_files().eq(sorted(ours.filter(|(path, _)| path.starts_with(schemas::FOLDER))))
        });
        let known = other.filter(|_| same_schemas).map(Bundle::known).unwrap_or_default();
        let judged = judge_all(&files, &digests, &schemas, &known);
        let mut bundle = Self {
            place,
            documents: Vec::new(),
            broken: BTreeSet::new(),
            unreadable: !wrong.is_empty(),
            schemas,
            wrong,
            entries: Vec::new(),
        };
        for ((file, digest), judged) in files.iter().zip(digests).zip(judged) {
            let schema = judged.and_then(|judged| bundle.add(judged));
            bundle.entries.push(Entry { path: file.path.clone(), schema, digest });
        }
        bundle.entries.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(bundle)
    }

    fn known(&self) -> Known<'_> {
        let digests: HashMap<&str, &Entry> =
            self.entries.iter().map(|entry| (entry.path.as_str(), entry)).collect();
        let with_digest = |document: &'_ Arc<Document>| {
            digests.get(document.path.as_str()).map(|entry| (entry.path.as_str(), &entry.digest))
        };
        self.documents.iter().filter_map(|document| Some((with_digest(document)?, document))).collect()
    }

    /// Takes in what a file was found to be; answers its schema.
    fn add(&mut self, judged: Judged) -> Option<String> {
        match judged {
            Judged::Sound(document) => {
                let schema = document.schema.clone();
                self.documents.push(document);
                Some(schema)
            }
            Judged::Broken { schema, name, wrong } => {
                self.wrong.extend(wrong);
                match name {
                    Some(name) => drop(self.broken.insert((schema.clone(), name))),
                    None => self.unreadable = true,
                }
                Some(schema)
            }
            Judged::Unreadable(wrong) => {
                self.wrong.extend(wrong);
                self.unreadable = true;
                None
            }
        }
    }
}

impl Found {
    fn digest(&self) -> Digest {
        match &self.text {
            Ok(text) => digest::of_text(text),
            // No text is the text of this.
            Err(reason) => digest::of_json(&[reason]),
        }
    }
}

/// A folder without any file was mistaken for the bundle: as a wish, it would delete everything.
fn refuse_empty(place: &Place, files: &[Found]) -> Result<(), String> {
    const LINE: &str = "there is no file: an empty bundle would delete everything";
    match (files.is_empty(), place) {
        (false, _) => Ok(()),
        (true, Place::Sent(_)) => Err(LINE.to_owned()),
        (true, place) => Err(format!("{place}: {LINE} (a bundle's files end in .yaml or .yml)")),
    }
}

fn sorted<'f>(
    files: impl Iterator<Item = (&'f str, &'f Digest)>,
) -> impl Iterator<Item = (&'f str, &'f Digest)> {
    let mut files: Vec<_> = files.collect();
    files.sort();
    files.into_iter()
}

/// In the order of the files; `None` for schemas.
fn judge_all(
    files: &[Found],
    digests: &[Digest],
    schemas: &Schemas,
    known: &Known<'_>,
) -> Vec<Option<Judged>> {
    let one = |(file, digest): (&Found, &Digest)| {
        if file.path.starts_with(schemas::FOLDER) {
            return None;
        }
        match known.get(&(file.path.as_str(), digest)) {
            Some(document) => Some(Judged::Sound(Arc::clone(document))),
            None => Some(judge(file, schemas)),
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get).min(8);
    let part = files.len().div_ceil(threads).max(FEW);
    std::thread::scope(|scope| {
        let parts = files.chunks(part).zip(digests.chunks(part));
        let running: Vec<_> = parts
            .map(|(files, digests)| {
                scope.spawn(move || {
                    store::panics::catch_panic_sync(|| files.iter().zip(digests).map(one).collect::<Vec<_>>())
                })
            })
            .collect();
        // A panic of a part is a panic of the whole.
        let ended = running
            .into_iter()
            .flat_map(|part| part.join().flatten().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        ended.collect()
    })
}

fn judge(file: &Found, schemas: &Schemas) -> Judged {
    let whole = |line, field: &str, reason| {
        Judged::Unreadable(vec![Diagnostic {
            file: file.label.clone(),
            line,
            field: field.to_owned(),
            reason,
        }])
    };
    let text = match &file.text {
        Ok(text) => text,
        Err(reason) => return whole(1, "", reason.clone()),
    };
    let tree = match yaml::read(text) {
        Ok(tree) => tree,
        Err(problem) => return whole(problem.line, "", problem.reason),
    };
    let value = tree.to_json();
    let named = value.get("$schema").and_then(serde_json::Value::as_str).map(str::to_owned);
    let schema = named.as_deref().and_then(|name| Some((name.to_owned(), schemas.get(name)?)));
    let Some((name, schema)) = schema else {
        let line = tree.line_of(&Field::from("$schema"));
        return whole(line, "$schema", no_schema(schemas, named.as_deref()));
    };
    let problems = schema.judge(&value);
    let document = Document::new(file, name, value, tree);
    if problems.is_empty() {
        return Judged::Sound(Arc::new(document));
    }
    let wrong = problems.into_iter().map(|problem| document.diagnostic(problem)).collect();
    Judged::Broken { name: document.name().map(str::to_owned), schema: document.schema, wrong }
}

fn no_schema(schemas: &Schemas, named: Option<&str>) -> String {
    let known = listed(schemas.names());
    match named {
        Some(name) => {
            let near = suggestion(name, schemas.names());
            format!("there is no schema `{name}`{near} (known: {known})")
        }
        None => format!("is missing: it names the file's schema (known: {known})"),
    }
}
