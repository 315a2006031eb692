//! Records written, read, united, and what must never be in them.

use std::collections::BTreeMap;
use std::sync::Arc;

use bollard_buildkit_proto::pb::{Definition, SourceOp, op};
use proptest::prelude::*;

use super::files::{FileRecord, FileSet};
use super::hash::Salt;
use super::observe::Observed;
use super::*;
use crate::cache::keys::Plan;
use crate::cache::keys::testing::*;

const DOCKERFILE: &str =
    "# syntax = docker/dockerfile:1\nFROM debian\nRUN  make \\\n  $SECRET\nCOPY $SECRET /\n";

fn definition(secret: &str) -> Definition {
    let mut maker = Maker::default();
    let base = maker.add("[build 1/3] FROM debian", image(BASE), &[]);
    let context = maker.add(
        "[internal] load build context",
        source("local://context"),
        &[],
    );
    let env = format!("SECRET={secret}");
    let name = format!("[build 2/3] RUN make {secret}");
    let made = maker.add(
        &name,
        run("make $SECRET", &["PATH=/bin", &env], Vec::new()),
        &[&base],
    );
    maker.at(&made, 3);
    let name = format!("[build 3/3] COPY {secret} /");
    let copied = maker.add(&name, copy(&format!("/{secret}"), "/"), &[&made, &context]);
    maker.at(&copied, 5);
    let mut definition = maker.end(&copied);
    if let Some(source) = &mut definition.source {
        source.infos[0].data = DOCKERFILE.into();
    }
    definition
}

fn observed(files: &[(&str, &str)]) -> Observed {
    Observed {
        dockerfile: "docker/Dockerfile".to_owned(),
        context: "app".to_owned(),
        commit: Some("4f2a91c".to_owned()),
        trees: BTreeMap::from([("context".to_owned(), Arc::new(tree(files)))]),
        ..Observed::default()
    }
}

/// A build whose last step ran.
fn build(secret: &str) -> Observed {
    let definition = definition(secret);
    let plan = Plan::of([&definition]);
    let last = plan.vertices().last().unwrap().digest.clone();
    Observed {
        definitions: BTreeMap::from([("linux/amd64".to_owned(), definition)]),
        ran: BTreeMap::from([(last, 7)]),
        ..observed(&[("a", "x"), ("ab", "yy"), ("d/", ""), ("d/l", "->a")])
    }
}

fn recorded(secret: &str, detail: Detail) -> Record {
    build(secret).record(detail, None, false)
}

#[test]
fn a_record_tells_the_steps_and_no_value() {
    let record = recorded("hush", Detail::Full);
    let json = serde_json::to_string(&record).unwrap();
    assert!(!json.contains("hush"), "{json}");
    let build = &record.builds[0];
    let names: Vec<_> = build.steps.iter().map(|step| step.name.as_str()).collect();
    for expected in [
        "[build 1/3] FROM",
        "[internal] load build context",
        "[build 2/3] RUN make $SECRET",
        "[build 3/3] COPY $SECRET /",
    ] {
        assert!(names.contains(&expected), "{names:?}");
    }
    let copy = build.steps.last().unwrap();
    assert_eq!((copy.line, copy.milliseconds), (Some((5, 5)), Some(7)));
    assert_eq!(build.frontend, "docker/dockerfile:1");
    assert_eq!(
        (build.dockerfile.as_str(), build.commit.as_deref()),
        ("Dockerfile", Some("4f2a91c"))
    );
    let make = build.steps.iter().find(|step| step.kind == "exec").unwrap();
    assert_eq!(make.env["SECRET"], build.salt.hash("SECRET", b"hush"));
    let files = record.files(build, "context").unwrap().expand().unwrap();
    let paths: Vec<_> = files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(paths, ["a", "ab", "d/l"]);
    assert!(files[2].is_link());
}

#[test]
fn steps_alone_tell_no_files_and_no_commit() {
    let record = recorded("hush", Detail::Steps);
    assert!(record.sets.is_empty() && record.builds[0].sets.is_empty());
    assert_eq!(record.builds[0].commit, None);
    assert_eq!(record.builds[0].steps.len(), 4);
}

#[test]
fn a_record_comes_back_and_its_bytes_are_always_the_same() {
    let record = recorded("hush", Detail::Full);
    let blob = record.to_blob().unwrap();
    assert_eq!(blob, record.to_blob().unwrap());
    assert_eq!(Record::from_blob(&blob.bytes).unwrap(), record);
}

#[test]
fn a_build_without_news_carries_the_record_over() {
    let old = recorded("hush", Detail::Full);
    assert_ne!(
        recorded("hush", Detail::Full).builds[0].salt,
        old.builds[0].salt
    );
    let mut again = build("hush");
    again.ran.clear();
    again.commit = Some("another".to_owned());
    again.trees.clear();
    for keep in [false, true] {
        assert_eq!(again.record(Detail::Full, Some(&old), keep), old);
        let ran = build("hush").record(Detail::Full, Some(&old), keep);
        // It ran, and took as long as before.
        assert_eq!(ran, old);
    }
    let changed = build("other").record(Detail::Full, Some(&old), true);
    assert_ne!(changed, old);
    assert_eq!((changed.builds.len(), changed.sets.len()), (1, 1));
    assert_eq!(changed.builds[0].salt, old.builds[0].salt);
}

/// A build of two contexts and two stages in a session, whose identifier is a part of the contexts' digests.
fn in_session(session: &str) -> Observed {
    let mut maker = Maker::default();
    let local = |name: &str| {
        let attrs = [("local.session", session), ("local.unique", session)];
        op::Op::Source(SourceOp {
            identifier: format!("local://{name}"),
            attrs: attrs.map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
        })
    };
    let base = maker.add("[build 1/3] FROM debian", image(BASE), &[]);
    let context = maker.add("[internal] load build context", local("context"), &[]);
    let named = maker.add("[context named] load from client", local("named"), &[]);
    let first = maker.add("[build 2/3] COPY a /", copy("/a", "/"), &[&base, &context]);
    let made = maker.add(
        "[build 3/3] RUN make",
        run("make", &[], Vec::new()),
        &[&first],
    );
    let second = maker.add(
        "[stage-1 2/3] COPY --from=named x /",
        copy("/x", "/"),
        &[&base, &named],
    );
    let last = maker.add(
        "[stage-1 3/3] COPY --from=build a /",
        copy("/a", "/"),
        &[&second, &made],
    );
    let definitions = BTreeMap::from([(String::new(), maker.end(&last))]);
    Observed {
        definitions,
        ran: BTreeMap::from([(last, 7)]),
        ..observed(&[("a", "x")])
    }
}

#[test]
fn the_session_is_nowhere_in_a_record() {
    let first = in_session("session").record(Detail::Full, None, false);
    let blob = first.to_blob().unwrap();
    // Depth first from the result, over the inputs.
    let order = [
        "[build 1/3]",
        "[context named]",
        "[stage-1 2/3]",
        "[internal]",
        "[build 2/3]",
        "[build 3/3]",
        "[stage-1 3/3]",
    ];
    let names = |record: &Record| -> Vec<String> {
        let steps = record.builds[0].steps.iter();
        steps.map(|step| step.name.clone()).collect()
    };
    for (name, label) in names(&first).iter().zip(order) {
        assert!(name.starts_with(label), "{name}: {label}");
    }
    for session in 0..20 {
        let mut again = in_session(&session.to_string());
        let fresh = again.record(Detail::Full, None, false);
        assert_eq!(names(&fresh), names(&first));
        for has_run in [true, false] {
            if !has_run {
                again.ran.clear();
            }
            let record = again.record(Detail::Full, Some(&first), false);
            assert_eq!(record.to_blob().unwrap(), blob);
        }
    }
}

#[test]
fn what_is_not_known_anew_stays() {
    let old = recorded("hush", Detail::Full);
    let mut next = build("hush");
    next.ran.clear();
    next.target = "other".to_owned();
    let record = next.record(Detail::Full, Some(&old), true);
    assert_eq!(record.builds.len(), 2);
    let times = |build: &BuildRecord| {
        build
            .steps
            .iter()
            .map(|s| s.milliseconds)
            .collect::<Vec<_>>()
    };
    assert_eq!(times(&record.builds[0]), times(&old.builds[0]));
    assert_eq!(next.record(Detail::Full, Some(&old), false).builds.len(), 1);
    // Of a file that was not read the content is that of before.
    let mut next = build("other");
    let entry = |path: &str, size| {
        let stat = crate::fsutil::wire::Stat {
            path: path.as_bytes().to_vec(),
            mode: 0o644,
            size,
            ..Default::default()
        };
        (stat, None)
    };
    let unread = crate::cache::keys::Tree::of([entry("a", 1), entry("ab", 3)]);
    next.trees.insert("context".to_owned(), Arc::new(unread));
    let record = next.record(Detail::Full, Some(&old), false);
    let files = record
        .files(&record.builds[0], "context")
        .unwrap()
        .expand()
        .unwrap();
    let before = old
        .files(&old.builds[0], "context")
        .unwrap()
        .expand()
        .unwrap();
    assert!(files[0].content.is_some() && files[0] == before[0]);
    assert_eq!((files[1].path.as_str(), files[1].content), ("ab", None));
}

#[test]
fn of_many_builds_the_oldest_fall_off() {
    let mut all = recorded("hush", Detail::Steps);
    for at in 0..20 {
        let mut one = recorded("hush", Detail::Full);
        one.builds[0].id = at.to_string();
        one.add(&all);
        all = one;
    }
    assert_eq!(all.builds.len(), MAX_BUILDS);
    assert_eq!(all.builds[0].id, "19");
    for build in &all.builds {
        assert!(all.files(build, "context").is_some());
    }
}

#[test]
fn what_is_too_large_is_left_out() {
    let mut record = recorded("hush", Detail::Full);
    let salt = Salt::random();
    // Hashes cannot be compressed.
    let file = |at: u32| {
        let hash = salt.hash("", &at.to_be_bytes());
        FileRecord(0, hash.to_string(), 0o644, 1, Some(hash))
    };
    let files: Vec<_> = (0..200_000).map(file).collect();
    record.sets[0].n = files.len();
    record.sets[0].files = files;
    let blob = record.to_blob().unwrap();
    assert!(blob.bytes.len() <= blob::MAX_BYTES);
    let back = Record::from_blob(&blob.bytes).unwrap();
    assert!(back.sets[0].truncated && back.sets[0].expand().is_none());
    assert_eq!((back.sets[0].n, back.builds), (200_000, record.builds));
}

/// Packs any JSON as a record.
fn packed(json: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut header = tar::Header::new_ustar();
    header.set_size(json.len() as u64);
    let mut archive = tar::Builder::new(Vec::new());
    archive
        .append_data(&mut header, ".docker-cachex/record.json", json)
        .unwrap();
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packer.write_all(&archive.into_inner().unwrap()).unwrap();
    packer.finish().unwrap()
}

#[test]
fn records_of_others_are_refused_and_nothing_breaks() {
    for json in [
        "",
        "{}",
        "[]",
        r#"{"v":2,"builds":7}"#,
        r#"{"v":1,"builds":[{"id":7}]}"#,
        r#"{"v":1,"sets":[{"salt":"AAAA"}]}"#,
        &format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000)),
    ] {
        assert!(
            Record::from_blob(&packed(json.as_bytes())).is_err(),
            "{json:.40}"
        );
    }
    assert!(matches!(
        Record::from_blob(&packed(br#"{"v":2}"#)),
        Err(RecordError::Version(2))
    ));
    // What is not known is passed over, however deep it is.
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    let deep = packed(format!(r#"{{"v":1,"x":{deep}}}"#).as_bytes());
    assert_eq!(Record::from_blob(&deep).unwrap(), Record::default());
    // Two megabytes of nothing, and far more in little room.
    assert!(Record::from_blob(&vec![0; 2 << 20]).is_err());
    assert!(Record::from_blob(&vec![0x1f; (2 << 20) + 1]).is_err());
    assert!(Record::from_blob(&packed(&vec![b' '; 30 << 20])).is_err());
}

#[test]
fn lists_of_files_may_be_nonsense() {
    let set = |files: Vec<FileRecord>| FileSet {
        files,
        ..FileSet::default()
    };
    let file = |shared, rest: &str| FileRecord(shared, rest.to_owned(), 0, 0, None);
    assert_eq!(set(vec![file(1, "a")]).expand(), None);
    assert_eq!(set(vec![file(0, "ü"), file(1, "a")]).expand(), None);
    assert_eq!(set(vec![file(0, &"a".repeat(5000))]).expand(), None);
    let long: Vec<_> = (0..20_000).map(|_| file(0, &"a".repeat(4000))).collect();
    assert_eq!(set(long).expand(), None);
    assert_eq!(set(vec![file(0, "../../x")]).expand().unwrap().len(), 1);
}

proptest! {
    #[test]
    fn no_blob_panics(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
        let _ = Record::from_blob(&bytes);
        let _ = Record::from_blob(&packed(&bytes));
    }

    #[test]
    fn a_damaged_record_is_a_record_or_an_error(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut json = serde_json::to_vec(&recorded("x", Detail::Full)).unwrap();
        let at = at.index(json.len());
        json[at] = byte;
        if let Ok(record) = Record::from_blob(&packed(&json)) {
            for set in &record.sets {
                let _ = set.expand();
            }
            let mut other = recorded("y", Detail::Full);
            other.add(&record);
            let _ = build("y").record(Detail::Full, Some(&record), true);
        }
    }
}

#[test]
fn a_build_that_names_no_platform_is_told_with_that_of_the_builder() {
    let of = |key: &str, platform: Option<&str>| {
        let built = build("hush");
        let definition = built.definitions.into_values().next().unwrap();
        let platform = platform.map(|architecture| bollard_buildkit_proto::pb::Platform {
            architecture: architecture.to_owned(),
            ..amd64()
        });
        Observed {
            definitions: BTreeMap::from([(key.to_owned(), definition)]),
            platform,
            ..build("hush")
        }
    };
    let recorded = |built: &Observed, old| built.record(Detail::Full, old, true);
    let named = recorded(&of("", Some("amd64")), None);
    assert_eq!(named.builds[0].platform, "linux/amd64");
    // The same as where it is named.
    let explicit = recorded(&of("linux/amd64", None), None);
    assert_eq!(explicit.builds[0].id, named.builds[0].id);
    // Earlier versions did not tell it.
    let earlier = recorded(&of("", None), None);
    assert_eq!(earlier.builds[0].platform, "");
    let next = recorded(&of("", Some("amd64")), Some(&earlier));
    assert_eq!(
        (next.builds.len(), next.builds[0].platform.as_str()),
        (1, "linux/amd64")
    );
    assert_eq!(next.builds[0].salt, earlier.builds[0].salt);
    // That of another builder is another build.
    let other = recorded(&of("", Some("arm64")), Some(&next));
    assert_eq!(other.builds.len(), 2);
    // And united with a record that an earlier version wrote.
    let mut united = next.clone();
    united.add(&earlier);
    assert_eq!(united.builds.len(), 1);
}
