//! The SQL functions of one database role: a file each in `sql/<role>`, installed by content hash.
//!
//! - Shape: a file defines one function, named as the file, and the triggers that call it, by `CREATE OR REPLACE`. All names
//!   in it are qualified by the role, which stands for the schema of the role's tables: nothing depends on `search_path`.
//! - Promise: `installed_functions` names what was installed. A program installs what differs from its own files, unless a
//!   newer program installed it. So a function's signature and meaning must suit older programs too; a function that
//!   changes either gets a new name. Programs of equal version replace each other's functions: `sql/released.txt` (a test)
//!   holds that a released version has one set of functions. A function that is missing in `pg_proc` is installed again.

use std::cmp::Ordering;
use std::collections::HashMap;

use sha2::{Digest as _, Sha256};
use sqlx::migrate::MigrateError;
use sqlx::{AssertSqlSafe, PgConnection};

include!(concat!(env!("OUT_DIR"), "/functions.rs"));

/// The version that `installed_functions` records.
const PROGRAM_VERSION: &str = env!("CARGO_PKG_VERSION");

/// The functions of one role. Empty for a role without functions.
#[derive(Clone, Copy)]
pub(super) struct FunctionSet {
    /// The schema's name in the files: `control` or `shard`.
    pub(super) role: &'static str,
    /// Name and text of each file.
    pub(super) files: &'static [(&'static str, &'static str)],
}

impl FunctionSet {
    /// The names of the functions that are to be installed, in the order of their files.
    pub(super) async fn list_pending(
        &self,
        connection: &mut PgConnection,
    ) -> Result<Vec<&'static str>, sqlx::Error> {
        if self.files.is_empty() {
            return Ok(Vec::new());
        }
        let installed = read_installed(connection).await?;
        let mut pending = Vec::new();
        for (name, text) in self.files {
            let is_pending = installed.get(*name).is_none_or(|(sha256, version)| {
                *sha256 != sha256_hex(text)
                    && compare_versions(version, PROGRAM_VERSION) != Ordering::Greater
            });
            if is_pending {
                pending.push(*name);
            }
        }
        Ok(pending)
    }

    /// Installs what is pending. To be called in a transaction that holds the migration lock.
    pub(super) async fn install_pending(
        &self,
        connection: &mut PgConnection,
    ) -> Result<(), MigrateError> {
        let pending = self.list_pending(connection).await?;
        if pending.is_empty() {
            return Ok(());
        }
        let schema: String =
            sqlx::query_scalar("SELECT current_schema()").fetch_one(&mut *connection).await?;
        check_schema_name(&schema)?;
        // Functions call each other: a body is checked when it runs first, and by the tests.
        let mut script = "SET LOCAL check_function_bodies = off;\n".to_owned();
        for (name, text) in self.files.iter().filter(|(name, _)| pending.contains(name)) {
            let definition = format!("CREATE OR REPLACE FUNCTION {name}(");
            let qualified = format!("CREATE OR REPLACE FUNCTION {}.{name}(", self.role);
            let text = text.replacen(&definition, &qualified, 1);
            script.push_str(&qualify(&text, self.role, &schema));
        }
        sqlx::raw_sql(AssertSqlSafe(script)).execute(&mut *connection).await?;
        let hashes = self.files.iter().filter(|(name, _)| pending.contains(name));
        sqlx::query(
            "INSERT INTO installed_functions (name, sha256, program_version)
             SELECT name, sha256, $3 FROM unnest($1::text[], $2::text[]) AS t (name, sha256)
             ON CONFLICT (name) DO UPDATE
                SET sha256 = excluded.sha256, program_version = excluded.program_version",
        )
        .bind(&pending)
        .bind(hashes.map(|(_, text)| sha256_hex(text)).collect::<Vec<_>>())
        .bind(PROGRAM_VERSION)
        .execute(connection)
        .await?;
        Ok(())
    }
}

/// Hash and program version of each installed function, by name; without those that were dropped
/// since. Empty before the first migration.
async fn read_installed(
    connection: &mut PgConnection,
) -> Result<HashMap<String, (String, String)>, sqlx::Error> {
    let has_table: bool =
        sqlx::query_scalar("SELECT to_regclass('installed_functions') IS NOT NULL")
            .fetch_one(&mut *connection)
            .await?;
    if !has_table {
        return Ok(HashMap::new());
    }
    let rows: Vec<(String, String, String)> =
        sqlx::query_as(INSTALLED_FUNCTIONS_SQL).fetch_all(connection).await?;
    Ok(rows.into_iter().map(|(name, sha256, version)| (name, (sha256, version))).collect())
}

const INSTALLED_FUNCTIONS_SQL: &str = "SELECT name, sha256, program_version FROM installed_functions
WHERE name IN (
    SELECT proname FROM pg_proc JOIN pg_namespace n ON n.oid = pronamespace WHERE nspname = current_schema()
)";

/// The text with the role's prefix replaced by the schema's quoted name.
fn qualify(text: &str, role: &str, schema: &str) -> String {
    let prefix = format!("{role}.");
    let mut qualified = String::with_capacity(text.len() + text.len() / 8);
    let mut rest = text;
    while let Some(start) = rest.find(&prefix) {
        let (before, after) = (&rest[..start], &rest[start + prefix.len()..]);
        qualified.push_str(before);
        if before.ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.') {
            qualified.push_str(&prefix);
        } else {
            qualified.push('"');
            qualified.push_str(schema);
            qualified.push_str("\".");
        }
        rest = after;
    }
    qualified.push_str(rest);
    qualified
}

/// Qualified names also stand in string literals and in templates of `format`.
fn check_schema_name(schema: &str) -> Result<(), MigrateError> {
    if schema.chars().any(|c| matches!(c, '"' | '\'' | '%' | '$' | '\\')) {
        let reason = format!("the schema's name may not contain quotes, %, $ or \\: {schema}");
        return Err(MigrateError::Source(reason.into()));
    }
    Ok(())
}

fn sha256_hex(text: &str) -> String {
    hex::encode(Sha256::digest(text))
}

/// Compares by the precedence of Semantic Versioning: a pre-release is lower than its release, and
/// build metadata does not count. Anything that is no version is lower than every version.
fn compare_versions(a: &str, b: &str) -> Ordering {
    parse_version(a).cmp(&parse_version(b))
}

/// `major.minor.patch` and the stage.
type ProgramVersion = ([u64; 3], VersionStage);

/// In the order of precedence.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum VersionStage {
    /// The dot-separated identifiers behind the hyphen.
    PreRelease(Vec<PreReleaseIdentifier>),
    Release,
}

/// In the order of precedence: numeric identifiers are lower than others.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum PreReleaseIdentifier {
    Number(u64),
    Text(String),
}

fn parse_version(version: &str) -> Option<ProgramVersion> {
    let version = version.split('+').next()?;
    let (core, stage) = match version.split_once('-') {
        Some((core, identifiers)) => {
            let identifiers = identifiers.split('.').map(parse_identifier);
            (core, VersionStage::PreRelease(identifiers.collect()))
        }
        None => (version, VersionStage::Release),
    };
    let parts: Option<Vec<u64>> = core.split('.').map(|part| part.parse().ok()).collect();
    Some((parts?.try_into().ok()?, stage))
}

fn parse_identifier(identifier: &str) -> PreReleaseIdentifier {
    let number = identifier.parse().map(PreReleaseIdentifier::Number);
    number.unwrap_or_else(|_| PreReleaseIdentifier::Text(identifier.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_role_is_replaced_where_it_qualifies_a_name() {
        let text = "SELECT shard.f(a.shard.b, my_shard.x), 'shard.events'::regclass";
        assert_eq!(
            qualify(text, "shard", "s0"),
            "SELECT \"s0\".f(a.shard.b, my_shard.x), '\"s0\".events'::regclass"
        );
    }

    #[test]
    fn a_newer_programs_functions_stay() {
        assert_eq!(compare_versions("0.10.0", "0.9.9"), Ordering::Greater);
        assert_eq!(compare_versions("0.2.0", "0.2.0"), Ordering::Equal);
        assert_eq!(compare_versions("1.0.0+build", "1.0.0"), Ordering::Equal);
        assert_eq!(compare_versions("rubbish", "0.1.0"), Ordering::Less);
    }

    /// Hazard: a pre-release counts as equal to its release and replaces the functions.
    #[test]
    fn versions_are_ordered_as_semantic_versioning_says() {
        let ordered = [
            "0.2.0",
            "0.3.0-dev",
            "0.3.0",
            "1.0.0-2",
            "1.0.0-11",
            "1.0.0-alpha",
            "1.0.0-alpha.1",
            "1.0.0-alpha.beta",
            "1.0.0-beta.2",
            "1.0.0-beta.11",
            "1.0.0-rc.1",
            "1.0.0",
        ];
        for pair in ordered.windows(2) {
            assert_eq!(compare_versions(pair[0], pair[1]), Ordering::Less, "{pair:?}");
        }
    }

    #[test]
    fn each_file_defines_the_function_of_its_name_and_names_are_qualified() {
        for (role, files) in [("control", CONTROL_FUNCTIONS), ("shard", SHARD_FUNCTIONS)] {
            assert!(files.len() > 20, "{role}: {}", files.len());
            for (name, text) in files {
                let start = format!("CREATE OR REPLACE FUNCTION {name}(");
                assert_eq!(text.matches("CREATE OR REPLACE FUNCTION").count(), 1, "{role}/{name}");
                assert!(text.contains(&start), "{role}/{name}");
                for setting in ["search_path", "current_schema"] {
                    assert!(!text.contains(setting), "{role}/{name} depends on {setting}");
                }
            }
        }
    }
}
