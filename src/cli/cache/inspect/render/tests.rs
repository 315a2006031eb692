use std::collections::HashSet;

use super::*;
use crate::cache::inspect::tests::loaded;
use crate::cli::cache::output::Format;
use crate::digest::Digest;

fn now() -> Timestamp {
    "2026-01-05T00:00:00Z".parse().unwrap()
}

fn render(format: &str, cache: &Inspection) -> String {
    let format = Format::parse(format).unwrap();
    format.render(cache, || table(cache, now(), true)).unwrap()
}

#[test]
fn the_table_is_for_people() {
    let cache = Inspection::new("r.io/app:cache", &loaded(), None);
    insta::assert_snapshot!(render("table", &cache));
}

#[test]
fn with_check_there_is_a_state() {
    let missing = HashSet::from([Digest::of(b"left")]);
    let cache = Inspection::new("r.io/app:cache", &loaded(), Some(&missing));
    let text = render("table", &cache);
    let state = |name: &str| {
        let digest = Digest::of(name.as_bytes());
        let short = format!("sha256:{}", &digest.hex()[..12]);
        let line = text.lines().find(|line| line.starts_with(&short)).unwrap();
        line.split("   ")
            .map(str::trim)
            .any(|cell| cell == "missing")
    };
    assert!(state("left") && !state("base"), "{text}");
}

#[test]
fn json_has_the_documented_fields() {
    let cache = Inspection::new("r.io/app:cache", &loaded(), None);
    insta::assert_snapshot!(render("json", &cache));
}

#[test]
fn templates_name_the_fields() {
    let cache = Inspection::new("r.io/app:cache", &loaded(), None);
    assert_eq!(
        render("{{.form}} {{.totalSize}}", &cache),
        "image-manifest 32002019\n"
    );
    assert!(Format::parse("{{").is_err());
}
