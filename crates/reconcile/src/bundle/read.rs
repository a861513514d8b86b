//! Reading a bundle: validates files against their schemas on up to 8 threads; reuses the
//! validation results of another bundle for identical files.

use std::collections::{BTreeSet, HashMap};
use std::num::NonZero;
use std::sync::Arc;

use yaml::{FieldPath, list_names, suggest_name};

use super::inputs::BundleEntry;
use super::schemas::{self, BundleSchemas};
use super::source::{self, BundleSource, BundleSourceFile};
use super::{Bundle, BundleDocument};
use crate::diagnostic::BundleDiagnostic;
use crate::fingerprint::{self, Fingerprint};

/// Folder of the reconcilers' metadata.
pub(super) const METADATA_FOLDER: &str = "integrations/";
/// Below this many files per chunk, another thread does not pay off.
const MIN_FILES_PER_THREAD: usize = 200;

/// Validation result of one file.
enum BundleFileValidation {
    /// Valid against its schema.
    Valid(Arc<BundleDocument>),
    /// Invalid against a known schema.
    Invalid { schema: String, name: Option<String>, diagnostics: Vec<BundleDiagnostic> },
    /// Unreadable, not YAML, or of an unknown schema.
    Unreadable(Vec<BundleDiagnostic>),
}

/// Valid documents of another bundle, by path and fingerprint.
type ValidatedDocuments<'b> = HashMap<(&'b str, &'b Fingerprint), &'b Arc<BundleDocument>>;

impl Bundle {
    /// Reads and validates a bundle. Fails only if the source cannot be read or is empty;
    /// other problems become diagnostics.
    pub fn read(source: BundleSource) -> Result<Self, String> {
        Self::read_reusing(source, None)
    }

    /// Like [`Bundle::read`], but reuses the valid documents of `other` for files with the same
    /// content, if the schemas are the same.
    pub fn read_reusing(source: BundleSource, other: Option<&Bundle>) -> Result<Self, String> {
        let mut files = source.read_files()?;
        refuse_empty(&source, &files)?;
        for folder in [schemas::SCHEMA_FOLDER, METADATA_FOLDER] {
            if !files.iter().any(|file| file.path.starts_with(folder)) {
                files.extend(source::builtin_files().filter(|file| file.path.starts_with(folder)));
            }
        }
        let mut diagnostics = Vec::new();
        let schemas = BundleSchemas::read(&files, &mut diagnostics);
        let fingerprints: Vec<Fingerprint> =
            files.iter().map(BundleSourceFile::fingerprint).collect();
        let same_schemas = other.is_some_and(|other| {
            let ours =
                files.iter().zip(&fingerprints).map(|(file, digest)| (file.path.as_str(), digest));
            other
                .schema_fingerprints()
                .eq(sort_by_path(ours.filter(|(path, _)| path.starts_with(schemas::SCHEMA_FOLDER))))
        });
        let validated =
            other.filter(|_| same_schemas).map(Bundle::validated_documents).unwrap_or_default();
        let validations = validate_files(&files, &fingerprints, &schemas, &validated);
        let mut bundle = Self {
            source,
            documents: Vec::new(),
            invalid_names: BTreeSet::new(),
            has_unreadable: !diagnostics.is_empty(),
            schemas,
            diagnostics,
            entries: Vec::new(),
        };
        for ((file, digest), judged) in files.iter().zip(fingerprints).zip(validations) {
            let schema = judged.and_then(|judged| bundle.add_file(judged));
            bundle.entries.push(BundleEntry {
                path: file.path.clone(),
                schema,
                fingerprint: digest,
            });
        }
        bundle.entries.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(bundle)
    }

    fn validated_documents(&self) -> ValidatedDocuments<'_> {
        let entries: HashMap<&str, &BundleEntry> =
            self.entries.iter().map(|entry| (entry.path.as_str(), entry)).collect();
        let mut validated = ValidatedDocuments::new();
        for document in &self.documents {
            if let Some(entry) = entries.get(document.path.as_str()) {
                validated.insert((entry.path.as_str(), &entry.fingerprint), document);
            }
        }
        validated
    }

    /// Adds a file's validation result; returns its schema, if known.
    fn add_file(&mut self, validation: BundleFileValidation) -> Option<String> {
        match validation {
            BundleFileValidation::Valid(document) => {
                let schema = document.schema.clone();
                self.documents.push(document);
                Some(schema)
            }
            BundleFileValidation::Invalid { schema, name, diagnostics: wrong } => {
                self.diagnostics.extend(wrong);
                match name {
                    Some(name) => drop(self.invalid_names.insert((schema.clone(), name))),
                    None => self.has_unreadable = true,
                }
                Some(schema)
            }
            BundleFileValidation::Unreadable(wrong) => {
                self.diagnostics.extend(wrong);
                self.has_unreadable = true;
                None
            }
        }
    }
}

impl BundleSourceFile {
    fn fingerprint(&self) -> Fingerprint {
        match &self.text {
            Ok(text) => fingerprint::hash_text(text),
            // Hashed as JSON, so that no text has the same fingerprint.
            Err(reason) => fingerprint::hash_json(&[reason]),
        }
    }
}

/// Rejects an empty bundle: it is probably the wrong folder, and applying
/// it would delete everything.
fn refuse_empty(source: &BundleSource, files: &[BundleSourceFile]) -> Result<(), String> {
    const EMPTY_BUNDLE_REASON: &str = "there is no file: an empty bundle would delete everything";
    match (files.is_empty(), source) {
        (false, _) => Ok(()),
        (true, BundleSource::Sent(_)) => Err(EMPTY_BUNDLE_REASON.to_owned()),
        (true, place) => {
            Err(format!("{place}: {EMPTY_BUNDLE_REASON} (a bundle's files end in .yaml or .yml)"))
        }
    }
}

fn sort_by_path<'f>(
    files: impl Iterator<Item = (&'f str, &'f Fingerprint)>,
) -> impl Iterator<Item = (&'f str, &'f Fingerprint)> {
    let mut files: Vec<_> = files.collect();
    files.sort();
    files.into_iter()
}

/// Results in the order of `files`; `None` for schema files.
fn validate_files(
    files: &[BundleSourceFile],
    fingerprints: &[Fingerprint],
    schemas: &BundleSchemas,
    validated: &ValidatedDocuments<'_>,
) -> Vec<Option<BundleFileValidation>> {
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get).min(8);
    let chunk_size = files.len().div_ceil(threads).max(MIN_FILES_PER_THREAD);
    std::thread::scope(|scope| {
        let chunks = files.chunks(chunk_size).zip(fingerprints.chunks(chunk_size));
        let handles: Vec<_> = chunks
            .map(|(files, digests)| {
                scope.spawn(move || {
                    store::panics::catch_panic_sync(|| {
                        validate_chunk(files, digests, schemas, validated)
                    })
                })
            })
            .collect();
        // A panic in one chunk propagates to the caller.
        let validations = handles.into_iter().flat_map(|part| {
            part.join().flatten().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        validations.collect()
    })
}

fn validate_chunk(
    files: &[BundleSourceFile],
    fingerprints: &[Fingerprint],
    schemas: &BundleSchemas,
    validated: &ValidatedDocuments<'_>,
) -> Vec<Option<BundleFileValidation>> {
    let mut validations = Vec::with_capacity(files.len());
    for (file, digest) in files.iter().zip(fingerprints) {
        if file.path.starts_with(schemas::SCHEMA_FOLDER) {
            validations.push(None);
            continue;
        }
        validations.push(Some(match validated.get(&(file.path.as_str(), digest)) {
            Some(document) => BundleFileValidation::Valid(Arc::clone(document)),
            None => validate_file(file, schemas),
        }));
    }
    validations
}

fn validate_file(file: &BundleSourceFile, schemas: &BundleSchemas) -> BundleFileValidation {
    let text = match &file.text {
        Ok(text) => text,
        Err(reason) => return unreadable_file(file, 1, "", reason.clone()),
    };
    let tree = match yaml::read_tree(text) {
        Ok(tree) => tree,
        Err(problem) => return unreadable_file(file, problem.line, "", problem.reason),
    };
    let value = tree.to_json();
    let schema_name = value.get("$schema").and_then(serde_json::Value::as_str).map(str::to_owned);
    let schema =
        schema_name.as_deref().and_then(|name| Some((name.to_owned(), schemas.get(name)?)));
    let Some((name, schema)) = schema else {
        let line = tree.line_of(&FieldPath::from("$schema"));
        let reason = unknown_schema_reason(schemas, schema_name.as_deref());
        return unreadable_file(file, line, "$schema", reason);
    };
    let problems = schema.validate(&value);
    let document = BundleDocument::new(file, name, value, tree);
    if problems.is_empty() {
        return BundleFileValidation::Valid(Arc::new(document));
    }
    let diagnostics =
        problems.into_iter().map(|problem| document.diagnostic_for(problem)).collect();
    BundleFileValidation::Invalid {
        name: document.name().map(str::to_owned),
        schema: document.schema,
        diagnostics,
    }
}

fn unreadable_file(
    file: &BundleSourceFile,
    line: u32,
    field: &str,
    reason: String,
) -> BundleFileValidation {
    BundleFileValidation::Unreadable(vec![BundleDiagnostic {
        file: file.label.clone(),
        line,
        field: field.to_owned(),
        reason,
    }])
}

fn unknown_schema_reason(schemas: &BundleSchemas, schema_name: Option<&str>) -> String {
    let known = list_names(schemas.names());
    match schema_name {
        Some(name) => {
            let near = suggest_name(name, schemas.names());
            format!("there is no schema `{name}`{near} (known: {known})")
        }
        None => format!("is missing: it names the file's schema (known: {known})"),
    }
}
