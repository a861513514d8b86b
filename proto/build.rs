//! Build script: compiles the contracts without `protoc`; `protox` parses, prost and tonic
//! generate.

use std::path::PathBuf;

use prost::Message as _;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let protos = ["order_service.proto", "data_manager.proto"];
    for file in protos {
        println!("cargo:rerun-if-changed={file}");
    }
    let descriptors = protox::compile(protos, ["."])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("descriptor.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    Ok(())
}
