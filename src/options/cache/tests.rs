use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::options::signing::Verify;
use crate::testing::map;

fn export(value: &str) -> RegistryCacheTo {
    match CacheTo::parse(value).unwrap().as_slice() {
        [CacheTo::Registry(export)] => (**export).clone(),
        other => panic!("{value}: {other:?}"),
    }
}

#[test]
fn bare_references() {
    for value in [
        "",
        "user/app:cache",
        "ref1,r.example/ref2",
        "r.example:5000/a",
    ] {
        let refs: Vec<&str> = value.split(',').filter(|part| !part.is_empty()).collect();
        let to: Vec<_> = CacheTo::parse(value)
            .unwrap()
            .iter()
            .map(CacheTo::attrs)
            .collect();
        let from: Vec<_> = CacheFrom::parse(value)
            .unwrap()
            .iter()
            .map(CacheFrom::attrs)
            .collect();
        let expected: Vec<_> = refs.iter().map(|raw| map(&[("ref", raw)])).collect();
        assert_eq!(to, expected, "{value}");
        assert_eq!(from, expected, "{value}");
    }
}

#[test]
fn a_bare_reference_is_an_export_with_defaults() {
    let bare = export("app");
    assert_eq!(bare, export("type=registry,ref=app"));
    assert_eq!(bare, RegistryCacheTo::new("app").unwrap());
    assert_eq!(bare.reference.to_string(), "docker.io/library/app");
    assert_eq!(
        (bare.mode, bare.via, bare.compressor),
        (Mode::Min, Via::Auto, Compressor::Auto)
    );
    assert_eq!((bare.merge, bare.on_failure), (false, OnFailure::Export));
}

#[test]
fn what_goes_to_buildkit_is_what_was_given() {
    for (value, expected) in [
        ("ref=a", vec![]),
        ("ref=a,mode=min", vec![]),
        ("ref=a,mode=max", vec![("mode", "max")]),
        ("ref=a,MODE=max", vec![("mode", "max")]),
        ("ref=a,compression=gzip", vec![("compression", "gzip")]),
        (
            "ref=a,compression-level=0",
            vec![("compression-level", "0")],
        ),
        (
            "ref=a,compression=zstd,compression-level=22,force-compression=T",
            vec![
                ("compression", "zstd"),
                ("compression-level", "22"),
                ("force-compression", "true"),
            ],
        ),
        (
            "ref=a,force-compression=",
            vec![("force-compression", "true")],
        ),
        (
            "ref=a,compression=uncompressed",
            vec![("compression", "uncompressed")],
        ),
        (
            "ref=a,compression=estargz,compression-level=9",
            vec![("compression", "estargz"), ("compression-level", "9")],
        ),
        (
            "ref=a,oci-mediatypes=false,image-manifest=false",
            vec![("oci-mediatypes", "false"), ("image-manifest", "false")],
        ),
        (
            "ref=a,oci-mediatypes=true,image-manifest=true",
            vec![("oci-mediatypes", "true"), ("image-manifest", "true")],
        ),
        ("ref=a,ignore-error=1", vec![("ignore-error", "true")]),
        ("ref=a,ignore-error=0", vec![]),
        (
            "ref=a,registry.insecure=true",
            vec![("registry.insecure", "true")],
        ),
        (
            "ref=a,via=client,compressor=client,merge=true,on-failure=skip,on-failure-timeout=5s,\
             alongside=true,max-age=720h,max-size=2g,max-records=5",
            vec![],
        ),
    ] {
        let mut expected = map(&expected);
        expected.insert("ref".to_owned(), "a".to_owned());
        assert_eq!(
            export(&format!("type=registry,{value}")).attrs(),
            expected,
            "{value}"
        );
    }
}

#[test]
fn own_options_are_typed() {
    let export = export(
        "type=registry,ref=a,via=client,compressor=builder,merge=true,on-failure=skip,\
         on-failure-timeout=1m30s,alongside=false,max-age=720h,max-size=2g,max-records=5",
    );
    assert_eq!(
        (export.via, export.compressor),
        (Via::Client, Compressor::Builder)
    );
    assert_eq!((export.merge, export.on_failure), (true, OnFailure::Skip));
    assert_eq!(export.on_failure_timeout, Some(Duration::from_secs(90)));
    assert_eq!(export.alongside, Some(false));
    assert_eq!(export.max_age, Some(Duration::from_secs(720 * 3600)));
    assert_eq!(
        (export.max_size, export.max_records),
        (Some(2 << 30), Some(5))
    );
}

#[test]
fn wrong_exports() {
    let digest = format!("type=registry,ref=a@sha256:{}", "a".repeat(64));
    for (value, part) in [
        ("type=registry", r#"key "ref" is required"#),
        ("type=registry,ref=", r#"key "ref" is required"#),
        ("ref=a", r#"key "type" is required in "ref=a""#),
        ("test=test", r#"key "type" is required"#),
        ("type=registry,ref", r#""ref" is not of the form key=value"#),
        ("type=registry,ref=A", "must be lowercase"),
        (
            "/some/dir",
            "a folder is named by type=local,dest=/some/dir",
        ),
        ("type=registry,ref=./d", "type=local,dest=./d"),
        ("a,,b", "empty reference"),
        ("a, b", r#"" b" is not a valid part"#),
        (digest.as_str(), "cannot be exported to a digest"),
        ("type=registri,ref=a", r#"did you mean "registry"?"#),
        (
            "type=ftp,ref=a",
            r#"invalid value "ftp" for "type", expected registry, inline, local, gha, s3, azblob"#,
        ),
        (
            "type=registry,ref=a,mod=max",
            r#"unknown key "mod" in "type=registry,ref=a,mod=max", did you mean "mode"?"#,
        ),
        ("type=registry,ref=a, mode=max", r#"unknown key " mode" in"#),
        (
            "type=registry,ref=a,mode=max,mode=max",
            r#"key "mode" is given more than once"#,
        ),
        (
            "type=registry,ref=a,mode=maxx",
            r#"invalid value "maxx" for "mode", expected min or max"#,
        ),
        ("type=registry,ref=a,mode=MAX", r#"did you mean "max"?"#),
        (
            "type=registry,ref=a,mode=",
            r#"invalid value "" for "mode""#,
        ),
    ] {
        let error = CacheTo::parse(value).unwrap_err().to_string();
        assert!(error.contains(part), "{value}: {error}");
    }
}

#[test]
fn wrong_values_of_exports() {
    for (value, part) in [
        (
            "type=registry,ref=a,compression=gzpi",
            r#"did you mean "gzip"?"#,
        ),
        (
            "type=registry,ref=a,compression-level=10",
            r#"invalid value "10" for "compression-level", expected a whole number from 0 to 9 for gzip"#,
        ),
        (
            "type=registry,ref=a,compression-level=-1",
            "from 0 to 9 for gzip",
        ),
        (
            "type=registry,ref=a,compression=estargz,compression-level=10",
            "from 0 to 9 for estargz",
        ),
        (
            "type=registry,ref=a,compression=zstd,compression-level=23",
            "from 0 to 22 for zstd",
        ),
        (
            "type=registry,ref=a,compression=zstd,compression-level=1.5",
            "from 0 to 22 for zstd",
        ),
        (
            "type=registry,ref=a,compression=uncompressed,compression-level=0",
            "cannot be used with compression=uncompressed",
        ),
        (
            "type=registry,ref=a,oci-mediatypes=false,image-manifest=true",
            "cannot be used with oci-mediatypes=false",
        ),
        (
            "type=registry,ref=a,ignore-error=yes",
            r#"invalid value "yes" for "ignore-error", expected true or false"#,
        ),
        (
            "type=registry,ref=a,via=cli",
            "expected auto, client or builder",
        ),
        (
            "type=registry,ref=a,on-failure=exprot",
            r#"did you mean "export"?"#,
        ),
        (
            "type=registry,ref=a,max-age=30d",
            r#"invalid value "30d" for "max-age", expected a duration"#,
        ),
        (
            "type=registry,ref=a,max-size=2q",
            r#"invalid value "2q" for "max-size", expected a size"#,
        ),
        (
            "type=registry,ref=a,max-records=-1",
            "expected a whole number",
        ),
        ("type=local", r#"key "dest" is required"#),
        (
            "type=local,dest=d,mode=all",
            r#"invalid value "all" for "mode""#,
        ),
        ("type=reg\"x", "quote inside an unquoted field"),
    ] {
        let error = CacheTo::parse(value).unwrap_err().to_string();
        assert!(error.contains(part), "{value}: {error}");
    }
}

#[test]
fn imports() {
    for (value, via, expected) in [
        ("type=registry,ref=a", Via::Auto, vec![("ref", "a")]),
        ("TYPE=registry,Ref=a:b", Via::Auto, vec![("ref", "a:b")]),
        (
            "type=registry,ref=a,registry.insecure=f,via=builder",
            Via::Builder,
            vec![("ref", "a"), ("registry.insecure", "false")],
        ),
    ] {
        let imports = CacheFrom::parse(value).unwrap();
        let [CacheFrom::Registry { via: got, .. }] = imports.as_slice() else {
            panic!("{imports:?}");
        };
        assert_eq!(*got, via);
        assert_eq!(imports[0].attrs(), map(&expected), "{value}");
    }
    let pinned = format!("a@sha256:{}", "a".repeat(64));
    assert_eq!(
        CacheFrom::parse(&pinned).unwrap()[0].attrs(),
        map(&[("ref", &pinned)])
    );
}

#[test]
fn the_line_of_an_export_is_an_import_too() {
    let line = "type=registry,ref=a,mode=max,compression=zstd,ignore-error=true";
    let import = &CacheFrom::parse(line).unwrap()[0];
    assert_eq!(import.attrs(), map(&[("ref", "a")]));
}

#[test]
fn a_cache_that_must_be_verified_is_never_read_without() {
    let verification = |value: &str| match &CacheFrom::parse(value).unwrap()[0] {
        CacheFrom::Registry { verification, .. } => verification.clone(),
        other @ CacheFrom::Other { .. } => panic!("{other}"),
    };
    let required = verification("type=registry,ref=a,verify-required=true");
    assert_eq!(required.verify, Verify::On);
    assert!(required.is_required);
    assert!(!verification("type=registry,ref=a,verify=b.pub").is_required);
    let quoted = r#"type=registry,ref=a,"verify=cosign:identity=a@b.c,issuer=https://x""#;
    let Verify::Cosign(identity) = verification(quoted).verify else {
        panic!("{quoted}")
    };
    assert_eq!(identity.name(), "a@b.c");
    let shown = CacheFrom::parse(quoted).unwrap()[0].to_string();
    assert_eq!(
        CacheFrom::parse(&shown),
        CacheFrom::parse(quoted),
        "{shown}"
    );
    for wrong in [
        "type=registry,ref=a,verify=false,verify-required=true",
        "type=registry,ref=a,verify-require=true",
        "type=registry,ref=a,verify=cosign:identity=a,issuer=b",
    ] {
        let (imports, remarks) = CacheFrom::parse_leniently(wrong).unwrap();
        assert!(imports.is_empty() && !remarks[0].is_read, "{wrong}");
    }
}

#[test]
fn wrong_imports() {
    for (value, part) in [
        ("type=registry", r#"key "ref" is required"#),
        ("type=registry,ref=a,rf=b", r#"unknown key "rf" in"#),
        ("type=local", r#"key "src" is required"#),
        (
            "type=inline",
            "is read with type=registry and the image as ref",
        ),
        ("type=registry,ref=a b", "is not a valid part"),
        ("/a/b", "a folder is named by type=local,src=/a/b"),
    ] {
        let error = CacheFrom::parse(value).unwrap_err().to_string();
        assert!(error.contains(part), "{value}: {error}");
    }
}

/// What buildx takes is no error, but a cache less to read, or a word about it.
#[test]
fn wrong_imports_are_remarked() {
    for (value, read, remark) in [
        ("x/Y", 0, "not read: "),
        ("x/Y,x/y", 1, "not read: "),
        ("type=registry,ref=x/Y", 0, "must be lowercase"),
        (
            "type=inline",
            0,
            "not read: the inline cache of an image is read with type=registry",
        ),
        ("type=registri,ref=a", 0, r#"did you mean "registry"?"#),
        ("type=registry", 0, r#"key "ref" is required"#),
        ("type=local", 0, r#"key "src" is required"#),
        ("type=local,src=", 0, r#"key "src" is required"#),
        ("type=registry,ref=a,ref=b", 0, "more than once"),
        (
            "type=registry,ref=a,registry.insecure=yes",
            0,
            "expected true or false",
        ),
        ("type=local,src=d,mode=all", 0, r#"for "mode""#),
        (
            "type=registry,ref=a,platform=linux/amd64",
            1,
            r#"passed over: unknown key "platform""#,
        ),
        (
            "type=registry,ref=a,ignore-errors=true",
            1,
            r#"did you mean "ignore-error"?"#,
        ),
    ] {
        let (imports, remarks) = CacheFrom::parse_leniently(value).unwrap();
        assert_eq!((imports.len(), remarks.len()), (read, 1), "{value}");
        let text = remarks[0].to_string();
        assert!(text.contains(remark), "{value}: {text}");
    }
    for value in ["type=registry,ref", "ref=a", "a\"b"] {
        assert!(CacheFrom::parse_leniently(value).is_err(), "{value}");
    }
}

#[test]
fn other_backends_pass_through() {
    for (value, kind, expected) in [
        ("type=inline", "inline", vec![]),
        (
            "type=local,dest=d,tag=t",
            "local",
            vec![("dest", "d"), ("tag", "t")],
        ),
        (
            "type=gha,mode=max,Scope=s",
            "gha",
            vec![("mode", "max"), ("scope", "s")],
        ),
        (
            "type=s3,region=r,bucket=b,what=ever",
            "s3",
            vec![("region", "r"), ("bucket", "b"), ("what", "ever")],
        ),
        (r#"type=azblob,"name=a,b""#, "azblob", vec![("name", "a,b")]),
    ] {
        let exports = CacheTo::parse(value).unwrap();
        assert!(matches!(&exports[0], CacheTo::Other { kind: found, .. } if found == kind));
        assert_eq!(exports[0].attrs(), map(&expected), "{value}");
        assert_eq!(
            CacheTo::parse(&exports[0].to_string()).unwrap(),
            exports,
            "{value}"
        );
    }
    let import = CacheFrom::parse("type=local,src=d").unwrap();
    assert_eq!(
        (import[0].kind(), import[0].attrs()),
        ("local", map(&[("src", "d")]))
    );
    assert_eq!(import[0].to_string(), "type=local,src=d");
}

#[test]
fn credentials_are_sent_and_never_shown() {
    let value = "type=s3,access_key_id=hunter1,secret_access_key=hunter2,region=r";
    let export = &CacheTo::parse(value).unwrap()[0];
    let import = &CacheFrom::parse(value).unwrap()[0];
    assert_eq!(export.attrs()["secret_access_key"], "hunter2");
    assert_eq!(import.attrs()["secret_access_key"], "hunter2");
    for shown in [
        export.to_string(),
        format!("{export:?}"),
        import.to_string(),
        format!("{import:?}"),
        CacheTo::parse(&format!("{value},x"))
            .unwrap_err()
            .to_string(),
        CacheTo::parse(&format!("{value},region=s"))
            .unwrap_err()
            .to_string(),
        CacheTo::parse("type=s3,secret_access_key=hunter2,hunter3")
            .unwrap_err()
            .to_string(),
        format!(
            "{:?}",
            CacheTo::parse("type=gha,token=hunter2,mode=x").unwrap_err()
        ),
    ] {
        assert!(!shown.contains("hunter"), "{shown}");
    }
}

fn words<T: Copy + std::fmt::Debug + 'static>(words: &[T]) -> impl Strategy<Value = T> + use<T> {
    prop::sample::select(words.to_vec())
}

fn exports() -> impl Strategy<Value = RegistryCacheTo> {
    let compression = prop::option::of(words(&[
        Compression::Gzip,
        Compression::Estargz,
        Compression::Zstd,
        Compression::Uncompressed,
    ]));
    let flags = prop::array::uniform5(prop::option::of(any::<bool>()));
    let own = (
        words(&[Via::Auto, Via::Client, Via::Builder]),
        words(&[Compressor::Auto, Compressor::Client, Compressor::Builder]),
        any::<bool>(),
        words(&[OnFailure::Export, OnFailure::Skip]),
    );
    let limits = (
        prop::option::of(0..=i64::MAX.unsigned_abs()),
        prop::option::of(0..=i64::MAX.unsigned_abs()),
        prop::option::of(0..1_u64 << 50),
        prop::option::of(any::<u64>()),
        prop::option::of(0..=i64::MAX.unsigned_abs()),
    );
    let raw_ref = "[a-z]{1,5}(\\.example(:[0-9]{2,4})?/[a-z]{1,5})?(:[A-Za-z0-9_]{1,5})?";
    let first = (
        raw_ref,
        words(&[Mode::Min, Mode::Max]),
        compression,
        any::<bool>(),
        0..=22_i32,
    );
    (first, flags, own, limits).prop_map(|(first, flags, own, limits)| {
        let (raw_ref, mode, compression, ignore_error, level) = first;
        let [force, oci, manifest, insecure, alongside] = flags;
        let highest = compression.unwrap_or_default().highest_level();
        RegistryCacheTo {
            mode,
            compression,
            compression_level: highest
                .map(|highest| level.min(highest))
                .filter(|level| *level != 7),
            force_compression: force,
            oci_mediatypes: oci,
            image_manifest: manifest.filter(|on| !(*on && oci == Some(false))),
            ignore_error,
            insecure,
            via: own.0,
            compressor: own.1,
            merge: own.2,
            on_failure: own.3,
            on_failure_timeout: limits.0.map(Duration::from_nanos),
            alongside,
            max_age: limits.1.map(Duration::from_nanos),
            max_size: limits.2,
            max_records: limits.3,
            clean: limits.4.map(Duration::from_nanos),
            mounts: Some(Mounts::parse("go;/root/.npm").unwrap()),
            mounts_max_size: limits.2,
            mounts_helper: Some(Reference::parse_normalized("busybox:1").unwrap()),
            ..RegistryCacheTo::new(&raw_ref).unwrap()
        }
    })
}

proptest! {
    #[test]
    fn parse_reads_what_display_writes(export in exports()) {
        let text = export.to_string();
        let expected = vec![CacheTo::Registry(Box::new(export))];
        prop_assert_eq!(CacheTo::parse(&text), Ok(expected), "{}", text);
    }

    #[test]
    fn other_backends_round_trip(
        list in prop::collection::btree_map("[a-z_]{1,8}", "([,\"=]|\\PC){0,8}", 0..4)
    ) {
        prop_assume!(!list.contains_key("type") && !list.contains_key("mode"));
        prop_assume!(!list.keys().any(|key| secret_keys::SECRET_KEYS.contains(&key.as_str())));
        let export = CacheTo::Other { kind: "s3".to_owned(), attrs: list };
        prop_assert_eq!(CacheTo::parse(&export.to_string()), Ok(vec![export]));
    }

    #[test]
    fn imports_round_trip(
        raw in "[a-z]{1,5}(\\.example/[a-z]{1,5})?(:[a-z0-9]{1,5})?",
        insecure in prop::option::of(any::<bool>()),
        via in words(&[Via::Auto, Via::Client, Via::Builder]),
    ) {
        let mut text = format!("type=registry,ref={raw},via={}", via.as_str());
        if let Some(insecure) = insecure {
            text = format!("{text},registry.insecure={insecure}");
        }
        let imports = CacheFrom::parse(&text).unwrap();
        prop_assert_eq!(CacheFrom::parse(&imports[0].to_string()), Ok(imports));
    }

    #[test]
    fn never_panics(text in "(type=registry,ref=|type=|,|=|\"|\\PC){0,12}") {
        let errors = [CacheTo::parse(&text).err(), CacheFrom::parse(&text).err()];
        for error in errors.into_iter().flatten() {
            prop_assert!(!error.to_string().is_empty());
        }
    }
}

#[test]
fn a_signature_is_asked_for_by_its_age_and_never_by_nothing() {
    let parse = |value: &str| CacheFrom::parse(value);
    let read = parse("type=registry,ref=r.io/a:c,max-signature-age=1h").unwrap();
    let [CacheFrom::Registry { verification, .. }] = &read[..] else {
        panic!("{read:?}");
    };
    assert_eq!(verification.verify, Verify::On);
    let error = parse("type=registry,ref=r.io/a:c,verify=").unwrap_err();
    assert!(error.to_string().contains("names no key"), "{error}");
}
