//! Hazard: a `.proto` file changes, and the code in the repository does not.

use std::error::Error;
use std::fs;
use std::path::Path;

use prost::Message as _;

const PROTO_FILES: [&str; 2] = ["order_service.proto", "data_manager.proto"];
/// Generated files, and their names in the repository.
const GENERATED_FILES: [(&str, &str); 3] = [
    ("order_service.rs", "order_service.in"),
    ("data_manager.rs", "data_manager.in"),
    ("descriptor.bin", "descriptor.bin"),
];

/// Compiles the contracts into `folder`; without `protoc`: `protox` parses, prost and tonic generate.
fn generate(folder: &Path) -> Result<(), Box<dyn Error>> {
    let descriptors = protox::compile(PROTO_FILES, ["."])?;
    fs::write(folder.join("descriptor.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure().out_dir(folder).compile_fds(descriptors)?;
    Ok(())
}

/// With the environment variable `UPDATE_GENERATED` (`make proto`) the files are written instead.
#[test]
fn the_generated_code_is_that_of_the_contracts() {
    let scratch = tempfile::tempdir().unwrap();
    generate(scratch.path()).unwrap();
    let is_update = std::env::var_os("UPDATE_GENERATED").is_some();
    for (fresh, name) in GENERATED_FILES {
        let (fresh, kept) = (scratch.path().join(fresh), Path::new("generated").join(name));
        if is_update {
            fs::copy(&fresh, &kept).unwrap();
        }
        let is_current = fs::read(&fresh).unwrap() == fs::read(&kept).unwrap();
        assert!(
            is_current,
            "proto/generated/{name} is not what the contracts give: run `make proto`"
        );
    }
}
