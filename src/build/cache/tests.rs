use super::export::INLINE_CACHE_ARG;
use super::*;
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

fn exports_of(values: &[&str], tags: &[&str], outputs: &[&str]) -> Result<Vec<Entry>, CacheError> {
    let tags = Tag::parse_list(tags).unwrap();
    let outputs: Vec<_> = outputs.iter().map(|o| Output::parse(o).unwrap()).collect();
    exports(&to(values), &tags, &outputs, &BTreeMap::new()).map(|exports| exports.entries)
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
    let plan = exports(&to(&lines), &[], &[], &BTreeMap::new()).unwrap();
    let [first, second] = &plan.layouts[..] else {
        panic!("{plan:?}")
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
    let attrs = &plan.entries[0].attrs;
    assert_eq!(first.store, format!("local:{}", attrs["dest"]));
    assert_eq!(
        (attrs["mode"].as_str(), attrs["compression"].as_str()),
        ("max", "zstd")
    );
    for wrong in [
        &["type=local,dest=d,reset=x"][..],
        &["type=local,dest=d,tag="],
        &["type=local,dest=d", "type=local,dest=d"],
    ] {
        assert!(
            exports(&to(wrong), &[], &[], &BTreeMap::new()).is_err(),
            "{wrong:?}"
        );
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
    let entries = exports(&[], &[], &[], &args).unwrap().entries;
    assert_eq!(entries[0].kind, "inline");
}

#[test]
fn via_client_is_a_local_export_to_a_store_of_the_session() {
    let line = "type=registry,ref=r.io/a:c,mode=max,compression=zstd,compression-level=3";
    let plan = |extra: &str| {
        exports(
            &to(&[&format!("{line},{extra}")]),
            &[],
            &[],
            &BTreeMap::new(),
        )
        .unwrap()
    };
    let given = plan("via=client");
    let attrs = &given.entries[0].attrs;
    assert_eq!(given.entries[0].kind, "local");
    assert_eq!(given.client[0].store, format!("local:{}", attrs["dest"]));
    assert_eq!(attrs["compression"], "zstd");
    assert_eq!(attrs["mode"], "max");
    assert!(!attrs.contains_key("ref"));
    let compressed = plan("compressor=client");
    assert_eq!(compressed.entries[0].attrs["compression"], "uncompressed");
    assert!(
        !compressed.entries[0]
            .attrs
            .contains_key("compression-level")
    );
    assert!(plan("via=builder").client.is_empty());
}

#[test]
fn what_is_united_or_cut_goes_through_the_session() {
    for key in ["merge=true", "max-age=1h", "max-size=1g", "max-records=10"] {
        let line = format!("type=registry,ref=r.io/a:c,{key}");
        let plan = exports(&to(&[&line]), &[], &[], &BTreeMap::new()).unwrap();
        assert_eq!(plan.client.len(), 1, "{key}");
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
