//! The bundle: the desired state of the platform as files, each of which keeps to the schema that it names.
//!
//! A bundle that has no `schemas/` of its own goes by those in the program, and so it is with `integrations/`.

mod document;
mod judge;
mod schemas;
mod source;

use std::collections::{BTreeMap, BTreeSet};

use crate::diagnostic::{listed, suggestion};
use crate::{Diagnostic, Field, Problem, yaml};
pub use document::Document;
use schemas::Schemas;
use source::Found;
pub use source::Place;

/// Where the integrations' metadata lies.
const INTEGRATIONS: &str = "integrations/";

/// A bundle that was read; what is wrong with it is in it.
#[derive(Debug)]
pub struct Bundle {
    place: Place,
    documents: Vec<Document>,
    /// Schema and name of documents that do not keep to their schema.
    broken: BTreeSet<(String, String)>,
    /// Whether there are files of which not even that is known.
    unreadable: bool,
    schemas: Schemas,
    wrong: Vec<Diagnostic>,
    files: usize,
}

/// What a bundle knows under a name.
#[derive(Debug)]
pub enum Named<'b> {
    /// This.
    Document(&'b Document),
    /// Something that does not keep to its schema, or perhaps a file that cannot be read: nothing can be said of it.
    Broken,
    /// Nothing.
    Nothing,
}

/// Looks for what no schema can: whether documents fit together. Contributed by whoever owns a kind of document.
pub type Check = fn(&Bundle) -> Vec<Diagnostic>;

impl Bundle {
    /// Reads the bundle. An error only if there is none.
    pub fn read(place: Place) -> Result<Self, String> {
        let mut files = place.files()?;
        for folder in [schemas::FOLDER, INTEGRATIONS] {
            if !files.iter().any(|file| file.path.starts_with(folder)) {
                files.extend(source::builtin().filter(|file| file.path.starts_with(folder)));
            }
        }
        let mut wrong = Vec::new();
        let schemas = Schemas::read(&files, &mut wrong);
        let unreadable = !wrong.is_empty();
        let count = files.len();
        let mut bundle = Self {
            place,
            documents: Vec::new(),
            broken: BTreeSet::new(),
            unreadable,
            schemas,
            wrong,
            files: count,
        };
        for file in files.iter().filter(|file| !file.path.starts_with(schemas::FOLDER)) {
            if let Err(diagnostics) = bundle.add(file) {
                bundle.wrong.extend(diagnostics);
            }
        }
        Ok(bundle)
    }

    /// Which bundle it is.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// How many files there are, schemas included.
    pub fn files(&self) -> usize {
        self.files
    }

    /// The names of the schemas.
    pub fn schemas(&self) -> impl Iterator<Item = &str> {
        self.schemas.names()
    }

    /// Everything that is wrong, by file and line.
    pub fn problems(&self, checks: &[Check]) -> Vec<Diagnostic> {
        let mut wrong = self.wrong.clone();
        wrong.extend(checks.iter().flat_map(|check| check(self)));
        wrong.sort();
        wrong.dedup();
        wrong
    }

    /// The documents of a schema that keep to it, by file. For checks; integrations ask their context.
    pub fn documents<'b>(&'b self, schema: &str) -> impl Iterator<Item = &'b Document> + use<'b> {
        let schema = schema.to_owned();
        self.documents.iter().filter(move |document| document.schema == schema)
    }

    /// The document of a schema with that `name`.
    pub fn named(&self, schema: &str, name: &str) -> Named<'_> {
        if let Some(document) = self.documents(schema).find(|document| document.name() == Some(name)) {
            return Named::Document(document);
        }
        let broken = self.unreadable || self.broken.contains(&(schema.to_owned(), name.to_owned()));
        if broken { Named::Broken } else { Named::Nothing }
    }

    /// The documents of a schema that bear the `name` of an earlier one.
    pub fn same_names(&self, schema: &str) -> Vec<Diagnostic> {
        let mut first = BTreeMap::new();
        let mut wrong = Vec::new();
        for document in self.documents(schema) {
            let Some(name) = document.name() else { continue };
            match first.get(name) {
                None => drop(first.insert(name, &document.file)),
                Some(file) => {
                    let reason = format!("`{name}` is already described in {file}");
                    wrong.push(document.diagnostic(Problem::new("name", reason)));
                }
            }
        }
        wrong
    }

    fn add(&mut self, file: &Found) -> Result<(), Vec<Diagnostic>> {
        let whole = |line, field: &str, reason| {
            vec![Diagnostic { file: file.label.clone(), line, field: field.to_owned(), reason }]
        };
        let read = file
            .text
            .as_ref()
            .map_err(|reason| whole(1, "", reason.clone()))
            .and_then(|text| yaml::read(text).map_err(|problem| whole(problem.line, "", problem.reason)));
        let tree = read.inspect_err(|_| self.unreadable = true)?;
        let value = tree.to_json();
        let line = tree.line_of(&Field::from("$schema"));
        let named = value.get("$schema").and_then(serde_json::Value::as_str);
        let Some(schema) = named.and_then(|name| self.schemas.get(name)) else {
            self.unreadable = true;
            return Err(whole(line, "$schema", self.no_schema(named)));
        };
        let schema_name = named.unwrap_or_default().to_owned();
        let problems = schema.judge(&value);
        let document = Document::new(file.label.clone(), schema_name.clone(), tree);
        if problems.is_empty() {
            self.documents.push(document);
            return Ok(());
        }
        if let Some(name) = document.name() {
            self.broken.insert((schema_name, name.to_owned()));
        } else {
            self.unreadable = true;
        }
        Err(problems.into_iter().map(|problem| document.diagnostic(problem)).collect())
    }

    fn no_schema(&self, named: Option<&str>) -> String {
        let known = listed(self.schemas.names());
        match named {
            Some(name) => {
                let near = suggestion(name, self.schemas.names());
                format!("there is no schema `{name}`{near} (known: {known})")
            }
            None => format!("is missing: it names the file's schema (known: {known})"),
        }
    }
}
