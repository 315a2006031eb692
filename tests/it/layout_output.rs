//! Images that are written to a layout folder (`--output type=oci,tar=false`), by both tools.

use std::path::Path;

use docker_cachex::for_tests::digest::Digest;
use fs_err as fs;
use serde_json::Value;

use crate::support::rig::{Client, Rig, context, text};

fn build(client: &Client, tool: &str, args: &[&str], folder: &Path) -> (bool, String) {
    let all = [&[tool, "build", "--progress=plain"], args].concat();
    let output = client.command(&all).current_dir(folder).output();
    let output = output.expect("the docker CLI");
    (output.status.success(), text(&output.stderr))
}

/// The entries of a layout's index: everything but digests and sizes, which differ by times.
fn entries(layout: &Path) -> Vec<Value> {
    let index = fs::read(layout.join("index.json")).expect("an index");
    let index: Value = serde_json::from_slice(&index).expect("JSON");
    let mut entries = index["manifests"].as_array().expect("a list").clone();
    for entry in &mut entries {
        let entry = entry.as_object_mut().expect("an object");
        entry.insert("size".into(), Value::Null);
        entry.insert("digest".into(), Value::Null);
        if let Some(annotations) = entry["annotations"].as_object_mut() {
            annotations.remove("org.opencontainers.image.created");
            annotations.remove("containerimage.config.digest");
        }
    }
    entries
}

/// Checks that every blob is what its name says, and returns how many there are.
fn blobs(layout: &Path) -> usize {
    let blobs = fs::read_dir(layout.join("blobs/sha256")).expect("a folder");
    let names = blobs.map(|blob| {
        let blob = blob.expect("an entry");
        let name = blob.file_name().into_string().expect("UTF-8");
        let bytes = fs::read(blob.path()).expect("a blob");
        assert_eq!(Digest::of(&bytes).hex(), name);
        name
    });
    names.count()
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn an_image_goes_to_a_layout_folder_as_with_buildx() {
    let client = Rig::get().client();
    let builder = client.builder("cachex");
    let folder = context(&[("Dockerfile", "FROM scratch\nCOPY file /\n"), ("file", "x")]);
    for (kind, names, more) in [
        ("oci", ",\"name=r.io/a:1,r.io/b\"", "--provenance=false"),
        ("oci", "", "--provenance=true"),
    ] {
        let layouts = ["buildx", "cachex"].map(|tool| {
            let layout = folder.path().join(format!("{tool}/{kind}{}", names.len()));
            // What was there stays, and a second image takes the name of the first.
            for contents in ["one", "two"] {
                fs::write(folder.path().join("file"), contents).expect("written");
                let output = format!("type={kind},tar=false,dest={}{names}", layout.display());
                let args = ["--builder", &builder.name, "-o", &output, more, "."];
                let (succeeded, errors) = build(&client, tool, &args, folder.path());
                assert!(succeeded, "{tool} {output}: {errors}");
            }
            layout
        });
        let [theirs, ours] = &layouts;
        assert_eq!(entries(ours), entries(theirs), "{kind}{names}");
        assert!(!entries(ours).is_empty());
        assert_eq!(blobs(ours), blobs(theirs), "{kind}{names}");
        assert_eq!(
            fs::read(ours.join("oci-layout")).expect("a file"),
            fs::read(theirs.join("oci-layout")).expect("a file")
        );
    }
    // Some versions of buildx cannot write one of type=docker.
    let docker = folder.path().join("cachex/docker");
    let output = format!("type=docker,tar=false,dest={}", docker.display());
    let args = ["--builder", &builder.name, "-o", &output, "."];
    let (succeeded, errors) = build(&client, "cachex", &args, folder.path());
    assert!(succeeded, "{errors}");
    assert_eq!(entries(&docker).len(), 1);
    assert_eq!(blobs(&docker), 3);
    // Others read it.
    let layout = folder.path().join("cachex/oci0");
    fs::write(
        folder.path().join("Dockerfile"),
        "FROM scratch\nCOPY --from=made file /read\n",
    )
    .expect("written");
    let read = folder.path().join("read");
    let from = format!("made=oci-layout://{}", layout.display());
    let dest = read.to_str().expect("UTF-8");
    for tool in ["buildx", "cachex"] {
        let args = ["--builder", &builder.name, "--build-context", &from];
        let args = [&args[..], &["-o", dest, "--provenance=false", "."]].concat();
        let (succeeded, errors) = build(&client, tool, &args, folder.path());
        assert!(succeeded, "{tool}: {errors}");
        let file = fs::read_to_string(read.join("read")).expect("the file");
        assert_eq!(file, "two");
        fs::remove_dir_all(&read).expect("removed");
    }
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn a_layout_folder_that_cannot_be_is_refused() {
    let client = Rig::get().client();
    let builder = client.builder("cachex");
    let folder = context(&[("Dockerfile", "FROM scratch\nCOPY Dockerfile /\n")]);
    for (outputs, told) in [
        (vec!["type=oci,tar=false,dest=Dockerfile"], "is a file"),
        (
            vec!["type=oci,tar=false,dest=Dockerfile/x"],
            "Not a directory",
        ),
        (
            vec!["type=oci,tar=false,dest=x", "type=docker,tar=false,dest=y"],
            "only one output with tar=false",
        ),
    ] {
        let flags: Vec<&str> = outputs.iter().flat_map(|output| ["-o", output]).collect();
        let args = [&["--builder", &builder.name], &flags[..], &["."]].concat();
        let (succeeded, errors) = build(&client, "cachex", &args, folder.path());
        assert!(!succeeded && errors.contains(told), "{outputs:?}: {errors}");
        let dockerfile = fs::read(folder.path().join("Dockerfile")).expect("a file");
        assert_eq!(dockerfile, b"FROM scratch\nCOPY Dockerfile /\n");
    }
}
