use std::collections::BTreeMap;

use super::targets::INLINE_CACHE_ARG;
use super::targets::{Carrier, Lookup, RegistryTarget};
use super::*;
use crate::build::cache::error::CacheError;
use crate::build::cache::import::{CacheImport, imports};
use crate::buildkit::solve::Entry;
use crate::options::cache::{CacheFrom, CacheTo};
use crate::options::output::Output;
use crate::options::tag::Tag;

fn to(values: &[&str]) -> Vec<CacheTo> {
    values
        .iter()
        .flat_map(|v| CacheTo::parse(v).unwrap())
        .collect()
}

fn targets_of(
    values: &[&str],
    tags: &[&str],
    outputs: &[&str],
) -> Result<Vec<CacheTarget>, CacheError> {
    let build = CacheContext {
        tags: &Tag::parse_list(tags).unwrap(),
        outputs: &Output::parse_list(outputs).unwrap(),
        build_args: &BTreeMap::new(),
    };
    targets(&to(values), build)
}

fn exports_of(values: &[&str], tags: &[&str], outputs: &[&str]) -> Result<Vec<Entry>, CacheError> {
    let targets = targets_of(values, tags, outputs)?;
    Ok(targets.iter().map(CacheTarget::entry).collect())
}

/// Resolves one registry cache.
fn registry(value: &str, tags: &[&str], outputs: &[&str]) -> RegistryTarget {
    match &targets_of(&[value], tags, outputs).unwrap()[..] {
        [CacheTarget::Registry(target)] => (**target).clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn registry_cache_goes_as_the_user_wrote_it() {
    let entries = exports_of(
        &["type=registry,ref=r.io/app:cache,mode=max,compression=zstd,compression-level=3"],
        &["r.io/app"],
        &[],
    )
    .unwrap();
    assert_eq!(entries[0].kind, "registry");
    assert_eq!(entries[0].attrs["ref"], "r.io/app:cache");
    assert_eq!(entries[0].attrs["mode"], "max");
    assert_eq!(entries[0].attrs["compression-level"], "3");
    assert_eq!(entries[0].attrs.len(), 4);
}

#[test]
fn docker_media_types_need_the_list_form() {
    let entries = exports_of(
        &["type=registry,ref=r.io/a:c,oci-mediatypes=false"],
        &[],
        &[],
    );
    assert_eq!(entries.unwrap()[0].attrs["image-manifest"], "false");
}

#[test]
fn the_images_own_name_is_refused_in_every_spelling() {
    for (cache, tag) in [
        ("app", "docker.io/library/app:latest"),
        ("r.io/a:1", "r.io/a:1"),
    ] {
        assert!(
            matches!(
                exports_of(&[cache], &[tag], &[]),
                Err(CacheError::ImageItself(_))
            ),
            "{cache}"
        );
    }
    let named = exports_of(
        &["r.io/a:1"],
        &[],
        &["type=registry,\"name=r.io/b,r.io/a:1\""],
    );
    assert!(matches!(named, Err(CacheError::ImageItself(_))));
    assert!(exports_of(&["r.io/a:cache"], &["r.io/a:1"], &[]).is_ok());
}

#[test]
fn two_exports_to_one_reference_are_refused() {
    let twice = exports_of(
        &["r.io/a:c", "type=registry,ref=r.io/a:c,mode=max"],
        &[],
        &[],
    );
    assert!(matches!(twice, Err(CacheError::Twice(_))));
    assert_eq!(
        exports_of(&["r.io/a:c", "r.io/a:d"], &[], &[])
            .unwrap()
            .len(),
        2
    );
}

#[test]
fn local_caches_go_to_stores_of_the_session() {
    let lines = [
        "type=local,dest=d,mode=max,compression=zstd",
        "type=local,dest=d,tag=t,reset=true",
    ];
    let targets = targets_of(&lines, &[], &[]).unwrap();
    let [CacheTarget::Layout(first), CacheTarget::Layout(second)] = &targets[..] else {
        panic!("{targets:?}")
    };
    assert_eq!(
        (first.dest.as_str(), first.tag.as_str(), first.reset),
        ("d", "latest", false)
    );
    assert_eq!(
        (second.dest.as_str(), second.tag.as_str(), second.reset),
        ("d", "t", true)
    );
    assert_ne!(first.store, second.store);
    let attrs = &targets[0].entry().attrs;
    assert_eq!(first.store.in_session(), format!("local:{}", attrs["dest"]));
    assert_eq!(
        (attrs["mode"].as_str(), attrs["compression"].as_str()),
        ("max", "zstd")
    );
    for wrong in [
        &["type=local,dest=d,reset=x"][..],
        &["type=local,dest=d,tag="],
        &["type=local,dest=d", "type=local,dest=d"],
    ] {
        assert!(targets_of(wrong, &[], &[]).is_err(), "{wrong:?}");
    }
}

#[test]
fn imports_name_who_reads() {
    let of = |value: &str| imports(&CacheFrom::parse(value).unwrap());
    let [CacheImport::Client(source)] =
        &of("type=registry,ref=r.io/a:c,via=client,registry.insecure=true").unwrap()[..]
    else {
        panic!()
    };
    assert_eq!(
        (source.raw_ref.as_str(), source.insecure, source.named()),
        ("r.io/a:c", true, "c")
    );
    let [CacheImport::Registry(source, entry)] = &of("r.io/a").unwrap()[..] else {
        panic!()
    };
    assert_eq!(entry.attrs["ref"], "r.io/a");
    assert_eq!(source.named(), "latest");
    let [CacheImport::Builder(entry)] = &of("type=gha").unwrap()[..] else {
        panic!()
    };
    assert_eq!(entry.kind, "gha");
    let [CacheImport::Layout(layout)] = &of("type=local,src=d").unwrap()[..] else {
        panic!()
    };
    assert_eq!(
        (layout.src.as_str(), layout.tag.as_str(), &layout.digest),
        ("d", "latest", &None)
    );
    assert!(of("type=local,src=d,digest=sha256:00").is_err());
    assert!(of("type=local,src=d,tag=").is_err());
}

#[test]
fn inline_cache_by_build_argument() {
    let args = BTreeMap::from([(INLINE_CACHE_ARG.to_owned(), "1".to_owned())]);
    let build = CacheContext {
        tags: &[],
        outputs: &[],
        build_args: &args,
    };
    let targets = targets(&[], build).unwrap();
    assert_eq!(targets[0].entry().kind, "inline");
    assert!(!targets[0].is_sent_by_builder());
}

#[test]
fn via_client_is_a_local_export_to_a_store_of_the_session() {
    let line = "type=registry,ref=r.io/a:c,mode=max,compression=zstd,compression-level=3";
    let resolved = |extra: &str| registry(&format!("{line},{extra}"), &[], &[]);
    let given = resolved("via=client");
    let Entry { kind, attrs } = given.entry();
    assert_eq!(kind, "local");
    assert_eq!(given.store.in_session(), format!("local:{}", attrs["dest"]));
    assert_eq!(attrs["compression"], "zstd");
    assert_eq!(attrs["mode"], "max");
    assert!(!attrs.contains_key("ref"));
    let compressed = resolved("compressor=client").entry();
    assert_eq!(compressed.attrs["compression"], "uncompressed");
    assert!(!compressed.attrs.contains_key("compression-level"));
    assert_eq!(resolved("via=builder").entry().kind, "registry");
}

#[test]
fn who_carries_a_cache_decides_what_is_done_early() {
    for (extra, via, lookup, early) in [
        ("", Carrier::Builder, Lookup::Now, EarlyExport::Compress),
        (
            ",via=client",
            Carrier::Client,
            Lookup::Now,
            EarlyExport::Upload,
        ),
        (
            ",merge=true",
            Carrier::Client,
            Lookup::Now,
            EarlyExport::Upload,
        ),
        (
            ",compressor=client",
            Carrier::Client,
            Lookup::Now,
            EarlyExport::Upload,
        ),
        (
            ",alongside=false",
            Carrier::Builder,
            Lookup::Now,
            EarlyExport::Off,
        ),
        (
            ",alongside=false,via=client",
            Carrier::Client,
            Lookup::Now,
            EarlyExport::Off,
        ),
    ] {
        let target = registry(&format!("type=registry,ref=r.io/a:c{extra}"), &[], &[]);
        assert_eq!(
            (target.via, target.lookup, target.early),
            (via, lookup, early),
            "{extra}"
        );
        assert_eq!(
            CacheTarget::Registry(Box::new(target)).is_sent_by_builder(),
            via == Carrier::Builder
        );
    }
}

#[test]
fn layers_come_from_the_repository_of_an_image_that_is_pushed() {
    let from = |tags: &[&str], output: &str| {
        let target = registry("r.io/cache:c", tags, &[output]);
        (target.mount_from, target.shares_repository)
    };
    let push = "type=image,push=true";
    assert_eq!(from(&["r.io/app"], push), (Some("app".to_owned()), false));
    assert_eq!(from(&["r.io/app"], "type=image"), (None, false));
    assert_eq!(from(&["other.io/app"], push), (None, false));
    assert_eq!(from(&["r.io/app", "r.io/cache:1"], push), (None, true));
}

#[test]
fn what_is_united_or_cut_goes_through_the_session() {
    for key in [
        "merge=true",
        "max-age=1h",
        "max-size=1g",
        "max-records=10",
        "clean=24h",
    ] {
        let line = format!("type=registry,ref=r.io/a:c,{key}");
        assert_eq!(registry(&line, &[], &[]).via, Carrier::Client, "{key}");
        let contradiction = exports_of(&[&format!("{line},via=builder")], &[], &[]);
        let Err(CacheError::Contradiction(text)) = contradiction else {
            panic!("{key}: {contradiction:?}")
        };
        assert!(text.contains(key.split('=').next().unwrap()), "{text}");
    }
}

#[test]
fn compressing_here_excludes_images_estargz_and_the_builders_upload() {
    let line = "type=registry,ref=r.io/a:c,compressor=client";
    for (extra, outputs) in [
        ("via=builder", &[][..]),
        ("compression=estargz", &[]),
        ("compression=zstd", &["type=docker"]),
    ] {
        let result = exports_of(&[&format!("{line},{extra}")], &[], outputs);
        assert!(
            matches!(result, Err(CacheError::Contradiction(_))),
            "{extra}"
        );
    }
    assert!(exports_of(&[line], &[], &["type=local,dest=x"]).is_ok());
}
