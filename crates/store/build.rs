//! Rebuilds the crate when a migration changes (`sqlx::migrate!` compiles them in), and lists the SQL
//! functions in `sql/` (name, text) for `src/migrations/functions.rs`: a new file needs no other entry.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let sql = Path::new(&env::var("CARGO_MANIFEST_DIR").unwrap_or_default()).join("../../sql");
    println!("cargo::rerun-if-changed=../../migrations");
    let mut list = String::new();
    for (constant, folder) in [("CONTROL_FUNCTIONS", "control"), ("SHARD_FUNCTIONS", "shard")] {
        let folder = sql.join(folder);
        println!("cargo::rerun-if-changed={}", folder.display());
        let _ = writeln!(list, "pub(super) const {constant}: &[(&str, &str)] = &[");
        for file in sql_files(&folder)? {
            let name = file.file_stem().unwrap_or_default().to_string_lossy();
            let _ =
                writeln!(list, "    ({name:?}, include_str!({:?})),", file.display().to_string());
        }
        list.push_str("];\n");
    }
    fs::write(Path::new(&env::var("OUT_DIR").unwrap_or_default()).join("functions.rs"), list)
}

fn sql_files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        files.push(entry?.path());
    }
    files.retain(|file| file.extension().is_some_and(|extension| extension == "sql"));
    files.sort();
    Ok(files)
}
