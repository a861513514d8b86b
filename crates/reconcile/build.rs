//! Build script: embeds the files of `configs/` as the built-in bundle.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let manifest = env::var("CARGO_MANIFEST_DIR").map_err(io::Error::other)?;
    let root = Path::new(&manifest).join("../../configs").canonicalize()?;
    // Cargo watches the whole folder: added and removed files trigger a rebuild.
    println!("cargo::rerun-if-changed={}", root.display());
    let mut files = Vec::new();
    collect(&root, &mut files)?;
    files.sort();
    let mut code = String::from("&[\n");
    for file in files {
        let relative = file.strip_prefix(&root).map_err(io::Error::other)?;
        let (name, path) = (relative.to_string_lossy(), file.to_string_lossy());
        writeln!(code, "    ({name:?}, include_str!({path:?})),").map_err(io::Error::other)?;
    }
    code.push_str("]\n");
    let out = env::var("OUT_DIR").map_err(io::Error::other)?;
    fs::write(Path::new(&out).join("builtin.rs"), code)
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        let hidden = entry.file_name().to_string_lossy().starts_with('.');
        let yaml =
            path.extension().is_some_and(|extension| extension == "yml" || extension == "yaml");
        match entry.file_type()? {
            kind if kind.is_dir() && !hidden => collect(&path, files)?,
            kind if kind.is_file() && yaml && !hidden => files.push(path),
            _ => {}
        }
    }
    Ok(())
}
