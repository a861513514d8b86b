//! The migrations are compiled in; a new file must not go unnoticed.

fn main() {
    println!("cargo::rerun-if-changed=../../migrations");
}
