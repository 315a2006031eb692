//! The generated code is what its proto file makes.

use std::path::Path;

/// Environment variable that makes the test write the generated file instead of comparing.
const UPDATE: &str = "CACHEX_UPDATE_PROTO";

#[test]
fn generated_code_is_current() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/buildkit/proto");
    let out = tempfile::tempdir().unwrap();
    let files = protox::compile(["content.proto"], [&folder]).unwrap();
    tonic_prost_build::configure()
        .out_dir(out.path())
        .bytes(".containerd.services.content.v1")
        .compile_fds(files)
        .unwrap();
    let made = out.path().join("containerd.services.content.v1.rs");
    let made = fs_err::read_to_string(made).unwrap();
    let kept = folder.join("content.rs");
    if std::env::var_os(UPDATE).is_some() {
        fs_err::write(&kept, &made).unwrap();
    }
    assert!(
        fs_err::read_to_string(kept).unwrap() == made,
        "src/buildkit/proto/content.rs is out of date: run this test with {UPDATE}=1"
    );
}
