//! Compiles the files of `migrations/` and `sql/` into the program: lists of (version, description, text) of the migrations
//! and of (name, text) of the SQL functions, for `src/migrations`. A new file needs no other entry.
//!
//! `sqlx::migrate!` would do the first, at the price of building `sqlx` and `tokio` once more for the macro.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let root = Path::new(&env::var("CARGO_MANIFEST_DIR").unwrap_or_default()).join("../..");
    let out = env::var("OUT_DIR").unwrap_or_default();
    let mut list = String::new();
    for role in ["control", "shard", "data_manager"] {
        list_migrations(&mut list, role, &root.join("migrations").join(role))?;
    }
    fs::write(Path::new(&out).join("migrations.rs"), &list)?;
    list.clear();
    for role in ["control", "shard"] {
        list_functions(&mut list, role, &root.join("sql").join(role))?;
    }
    fs::write(Path::new(&out).join("functions.rs"), list)
}

/// A file `0001_baseline.sql` has version 1 and the description `baseline`.
fn list_migrations(list: &mut String, role: &str, folder: &Path) -> io::Result<()> {
    let constant = format!("{}_MIGRATIONS", role.to_uppercase());
    let _ = writeln!(list, "pub(super) const {constant}: &[MigrationFile] = &[");
    for file in sql_files(folder)? {
        let name = file.file_stem().unwrap_or_default().to_string_lossy();
        let (version, description) = name.split_once('_').unwrap_or((&name, ""));
        let version = version.trim_start_matches('0');
        let description = description.replace('_', " ");
        let path = file.display().to_string();
        let _ = writeln!(list, "    ({version}, {description:?}, include_str!({path:?})),");
    }
    list.push_str("];\n");
    Ok(())
}

fn list_functions(list: &mut String, role: &str, folder: &Path) -> io::Result<()> {
    let constant = format!("{}_FUNCTIONS", role.to_uppercase());
    let _ = writeln!(list, "pub(super) const {constant}: &[(&str, &str)] = &[");
    for file in sql_files(folder)? {
        let name = file.file_stem().unwrap_or_default().to_string_lossy();
        let path = file.display().to_string();
        let _ = writeln!(list, "    ({name:?}, include_str!({path:?})),");
    }
    list.push_str("];\n");
    Ok(())
}

fn sql_files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    println!("cargo::rerun-if-changed={}", folder.display());
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        files.push(entry?.path());
    }
    files.retain(|file| file.extension().is_some_and(|extension| extension == "sql"));
    files.sort();
    Ok(files)
}
