use proptest::prelude::*;

use super::*;
use crate::testing::map;

fn path(text: &str) -> Dest {
    Dest::Path(PathBuf::from(text))
}

fn output(kind: OutputType, dest: impl Into<Option<Dest>>, attrs: &[(&str, &str)]) -> Output {
    Output {
        kind,
        attrs: map(attrs),
        dest: dest.into(),
    }
}

#[test]
fn forms() {
    use OutputType::{CacheOnly, Docker, Image, Local, Oci, Tar};
    for (value, expected) in [
        ("out", output(Local, path("out"), &[])),
        ("./a=b", output(Local, path("./a=b"), &[])),
        ("-", output(Tar, Some(Dest::Stdout), &[])),
        ("type=local,dest=out", output(Local, path("out"), &[])),
        (
            "type=local,dest=out,mode=Delete",
            output(Local, path("out"), &[("mode", "Delete")]),
        ),
        ("type=tar,dest=o.tar", output(Tar, path("o.tar"), &[])),
        ("type=tar", output(Tar, Some(Dest::Stdout), &[])),
        ("type=oci", output(Oci, Some(Dest::Stdout), &[])),
        ("type=oci,dest=-", output(Oci, Some(Dest::Stdout), &[])),
        (
            "type=oci,tar=false,dest=d",
            output(Oci, path("d"), &[("tar", "false")]),
        ),
        (
            "type=oci,tar=what,dest=f",
            output(Oci, path("f"), &[("tar", "what")]),
        ),
        ("type=docker", output(Docker, None, &[])),
        ("type=docker,dest=f", output(Docker, path("f"), &[])),
        ("type=docker,dest=", output(Docker, None, &[])),
        (
            "type=docker,context=c",
            output(Docker, None, &[("context", "c")]),
        ),
        ("type=image", output(Image, None, &[])),
        (
            "type=image, Name=a,PUSH=true",
            output(Image, None, &[("name", "a"), ("push", "true")]),
        ),
        (
            r#"type=image,"name=a,b""#,
            output(Image, None, &[("name", "a,b")]),
        ),
        (
            "type=registry",
            output(Image, None, &[("push", "true"), ("unpack", "false")]),
        ),
        (
            "type=registry,unpack=true",
            output(Image, None, &[("push", "true"), ("unpack", "true")]),
        ),
        ("type=cacheonly", output(CacheOnly, None, &[])),
    ] {
        let parsed = Output::parse(value).unwrap();
        assert_eq!(parsed, expected, "{value}");
        assert_eq!(
            Output::parse(&parsed.to_string()).unwrap(),
            parsed,
            "{value}"
        );
    }
}

#[test]
fn errors() {
    for (value, part) in [
        ("", "empty value"),
        ("type=", r#"key "type" is required"#),
        ("dest=a,foo=b", r#"key "type" is required"#),
        ("a,b", r#""a" is not of the form key=value"#),
        ("type=iamge", r#"did you mean "image"?"#),
        ("type=local", "dest is required for type=local"),
        ("type=local,dest=-", "cannot be standard output"),
        ("type=oci,tar=false", "dest is required for type=oci"),
        ("type=docker,tar=0", "dest is required for type=docker"),
        ("type=docker,tar=0,dest=-", "cannot be standard output"),
        ("type=image,dest=a", "dest cannot be used with type=image"),
        (
            "type=registry,dest=a",
            "dest cannot be used with type=image",
        ),
        (
            "type=cacheonly,dest=a",
            "dest cannot be used with type=cacheonly",
        ),
        (
            "type=local,dest=a,mode=move",
            r#"invalid value "move" for "mode", expected copy or delete"#,
        ),
    ] {
        let error = Output::parse(value).unwrap_err().to_string();
        assert!(error.contains(part), "{value}: {error}");
    }
}

#[test]
fn only_one_output_goes_to_stdout() {
    assert_eq!(
        Output::parse_list(&["", "-", "type=oci,dest=f"])
            .unwrap()
            .len(),
        2
    );
    let error = Output::parse_list(&["-", "type=oci"])
        .unwrap_err()
        .to_string();
    assert_eq!(error, "more than one output writes to standard output");
}

#[test]
fn questions() {
    for (value, pushes, loads, folder, deletes) in [
        ("type=image", false, false, false, false),
        ("type=image,push=1", true, false, false, false),
        ("type=image,push=", true, false, false, false),
        ("type=image,push=x", false, false, false, false),
        ("type=registry", true, false, false, false),
        ("type=docker", false, true, false, false),
        ("type=docker,dest=f", false, false, false, false),
        ("type=docker,dest=f,tar=false", false, false, true, false),
        ("type=docker,push=true", false, true, false, false),
        ("out", false, false, true, false),
        ("type=local,dest=a,mode= delete", false, false, true, true),
        ("type=tar,dest=a,mode=delete", false, false, false, false),
    ] {
        let output = Output::parse(value).unwrap();
        let answers = (
            output.pushes(),
            output.loads(),
            output.writes_folder(),
            output.deletes(),
        );
        assert_eq!(answers, (pushes, loads, folder, deletes), "{value}");
    }
}

#[test]
fn push_and_load() {
    let cases: [(&[&str], bool, bool, &[&str]); 12] = [
        (&[], false, false, &[]),
        (&[], true, false, &["type=image,push=true,unpack=false"]),
        (&[], false, true, &["type=docker"]),
        (
            &[],
            true,
            true,
            &["type=image,push=true,unpack=false", "type=docker"],
        ),
        (
            &["type=image,name=a"],
            true,
            false,
            &["type=image,name=a,push=true,unpack=false"],
        ),
        (
            &["type=image,push=false"],
            true,
            false,
            &["type=image,push=true,unpack=false"],
        ),
        (
            &["type=image,unpack=true"],
            true,
            false,
            &["type=image,push=true,unpack=true"],
        ),
        (
            &["out"],
            true,
            false,
            &["type=local,dest=out", "type=image,push=true,unpack=false"],
        ),
        (&["type=docker"], false, true, &["type=docker"]),
        (
            &["type=docker,dest=f"],
            false,
            true,
            &["type=docker,dest=f", "type=docker"],
        ),
        (
            &["type=registry"],
            false,
            false,
            &["type=image,push=true,unpack=false"],
        ),
        (
            &["type=cacheonly"],
            false,
            true,
            &["type=cacheonly", "type=docker"],
        ),
    ];
    for (outputs, push, load, expected) in cases {
        let outputs = Output::parse_list(outputs).unwrap();
        let merged: Vec<String> = apply_push_load(outputs, push, load)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(merged, expected, "push={push} load={load}");
    }
}

proptest! {
    #[test]
    fn never_panics_and_round_trips(value in "(type=(image|oci|docker|local|tar)|,|dest=|push=|\"|[a-z,=\"]|\\PC){0,10}") {
        if let Ok(output) = Output::parse(&value) {
            prop_assert_eq!(Output::parse(&output.to_string()), Ok(output));
        }
    }
}
