use bollard_buildkit_proto::pb::{Op, OpMetadata, SourceOp, op};
use prost::Message as _;

use super::*;
use crate::digest::Digest;

fn source(text: &str) -> (SourceOp, OpMetadata) {
    let definition = Repository::parse(text).unwrap().definition(text);
    let op = Op::decode(definition.def[0].as_slice()).unwrap();
    let digest = Digest::of(&definition.def[0]).to_string();
    let result = Op::decode(definition.def[1].as_slice()).unwrap();
    assert_eq!(result.inputs[0].digest, digest);
    let Some(op::Op::Source(source)) = op.op else {
        panic!("{op:?}")
    };
    (source, definition.metadata[&digest].clone())
}

#[test]
fn a_query_becomes_a_source() {
    let (plain, about) = source("https://me@example.com:8443/a/../r.git?branch=main");
    assert_eq!(
        plain.identifier,
        "git://example.com:8443/r.git#refs/heads/main"
    );
    assert_eq!(
        plain.attrs["git.fullurl"],
        "https://me@example.com:8443/r.git"
    );
    assert_eq!(plain.attrs.len(), 3);
    assert_eq!(about.caps.len(), 2);
    let text = "http://h/r.git?tag=v1&subdir=a/b&commit=cafe&keep-git-dir&submodules=0&mtime=commit&fetch-by-commit=1";
    let (all, about) = source(text);
    assert_eq!(all.identifier, "git://h/r.git#refs/tags/v1:a/b");
    for (name, value) in [
        ("checksum", "cafe"),
        ("keepgitdir", "true"),
        ("skipsubmodules", "true"),
        ("mtime", "commit"),
        ("fetchbycommit", "true"),
    ] {
        assert_eq!(all.attrs[&format!("git.{name}")], value);
        assert!(about.caps[&format!("source.git.{name}")]);
    }
    assert_eq!(
        about.description["llb.customname"],
        format!("[internal] load git source {text}")
    );
    let (fragment, _) = source("http://h/r.git?keep-git-dir=false#main:/a/./b");
    assert_eq!(fragment.identifier, "git://h/r.git#main:a/b");
}

#[test]
fn what_contradicts_or_is_not_known_is_refused() {
    for (query, want) in [
        ("?ref=a#b", "ref conflicts: \"b\" vs \"a\""),
        ("?tag=a&branch=b", "ref conflicts"),
        ("?ref=a&ref=a", "query \"ref\" has multiple values"),
        ("?subdir=a#b:c", "subdir conflicts"),
        ("?ref=", "query \"ref\" has no value"),
        ("?submodules=x", "invalid submodules value: \"x\""),
        ("?mtime=now", "invalid mtime value: \"now\""),
        ("?depth=1", "unexpected query \"depth\""),
    ] {
        let error = Repository::parse(&format!("https://h/r.git{query}")).unwrap_err();
        assert!(error.starts_with(want), "{query}: {error}");
    }
}

#[test]
fn short_forms_are_the_repositories_that_they_stand_for() {
    for (text, identifier, remote, by_ssh) in [
        (
            "github.com/me/app#main:sub",
            "git://github.com/me/app#main:sub",
            "https://github.com/me/app",
            false,
        ),
        (
            "git@h.io:me/app.git#main",
            "git://h.io/me/app.git#main",
            "git@h.io:me/app.git",
            true,
        ),
        (
            "me@h.io:/a/r?branch=b",
            "git://h.io/a/r#refs/heads/b",
            "me@h.io:/a/r",
            true,
        ),
        (
            "ssh://git@h.io:22/r.git",
            "git://h.io:22/r.git",
            "ssh://git@h.io:22/r.git",
            true,
        ),
    ] {
        let (source, _) = source(text);
        assert_eq!(source.identifier, identifier);
        assert_eq!(source.attrs["git.fullurl"], remote);
        let agent = source.attrs.get("git.mountsshsock");
        assert_eq!(agent.is_some(), by_ssh, "{text}");
    }
}
