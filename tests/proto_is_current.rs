//! Proves that the checked-in gRPC code is what its `.proto` files generate.
//!
//! A build then needs neither `protoc` nor a build script. After a change of a `.proto` file write the code again (the
//! library without features does not contain it, so it need not fit):
//! `RAYSCALER_WRITE_PROTO=1 cargo test --no-default-features --test proto_is_current`.
#![expect(clippy::unwrap_used, reason = "test")]
#![expect(
    clippy::disallowed_methods,
    reason = "the variable that asks for writing"
)]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Holds the packages in the order in which their modules nest.
const PACKAGES: [&str; 2] = ["ray.rpc", "ray.rpc.autoscaler"];

fn wire_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/wire/gcs")
}

fn generate(into: &Path) {
    let proto = wire_dir().join("proto");
    let files = protox::compile(["gcs.proto", "autoscaler.proto"], [proto]).unwrap();
    tonic_prost_build::configure()
        .btree_map(".")
        // The client sends by path, see `wire::gcs`.
        .build_client(false)
        .server_mod_attribute(".", "#[cfg(feature = \"sandbox\")]")
        .out_dir(into)
        .emit_rerun_if_changed(false)
        .compile_fds(files)
        .unwrap();
}

fn module_tree(generated: &Path) -> String {
    let mut text = String::from(
        "// Generated from proto/*.proto by tests/proto_is_current.rs. Do not edit.\n\npub mod ray {\npub mod rpc {\n",
    );
    for package in PACKAGES {
        let code = std::fs::read_to_string(generated.join(format!("{package}.rs"))).unwrap();
        let is_nested = package != PACKAGES[0];
        if is_nested {
            let name = package.rsplit('.').next().unwrap();
            writeln!(text, "pub mod {name} {{").unwrap();
        }
        text.push_str(&code);
        if is_nested {
            text.push_str("}\n");
        }
    }
    text.push_str("}\n}\n");
    text
}

#[test]
fn checked_in_code_is_what_the_proto_files_generate() {
    let generated = tempfile::tempdir().unwrap();
    generate(generated.path());
    let fresh = module_tree(generated.path());
    let path = wire_dir().join("generated.rs");
    if std::env::var_os("RAYSCALER_WRITE_PROTO").is_some() {
        std::fs::write(&path, &fresh).unwrap();
    }
    let checked_in = std::fs::read_to_string(&path).unwrap();
    assert!(
        checked_in == fresh,
        "{} is stale: run `RAYSCALER_WRITE_PROTO=1 cargo test --no-default-features --test proto_is_current`",
        path.display()
    );
}
