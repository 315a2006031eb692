use super::*;
use crate::build::cache::UnsupportedBackends;
use crate::build::cache::export::{self, CacheContext};
use crate::options::cache::CacheTo;
use crate::options::call::Call;
use crate::options::output::Output;
use crate::options::tag::Tag;
use crate::testing::map;

/// A build with these caches and outputs.
fn request(caches: &str, outputs: &[&str]) -> BuildRequest {
    BuildRequest {
        cache_to: CacheTo::parse(caches).unwrap(),
        outputs: Output::parse_list(outputs).unwrap(),
        tags: Tag::parse_list(&["r.io/app"]).unwrap(),
        ..BuildRequest::default()
    }
}

fn new_builder() -> BuilderFacts {
    BuilderFacts {
        attestations: true,
        several_exporters: true,
        ..BuilderFacts::default()
    }
}

fn planned_on(
    request: &BuildRequest,
    node: &NodeFacts,
    builder: &BuilderFacts,
) -> Result<BuildPlan, PlanError> {
    let build = CacheContext {
        tags: &request.tags,
        outputs: &request.outputs,
        build_args: &request.build_args,
    };
    let mut inputs = Inputs::default();
    inputs.attrs = map(&[("filename", "Dockerfile"), ("target", "of the inputs")]);
    plan(
        request,
        PlanContext {
            targets: &export::targets(&request.cache_to, build).unwrap(),
            inputs: &inputs,
            commit: &map(&[("vcs:revision", "abc")]),
            node,
            builder,
            reads_zstd: false,
        },
    )
}

fn planned(request: &BuildRequest) -> BuildPlan {
    planned_on(request, &NodeFacts::default(), &new_builder()).unwrap()
}

fn solve_request(plan: &BuildPlan) -> SolveRequest {
    let session = SessionNames {
        id: "session".to_owned(),
        upload_url: None,
    };
    plan.solve_request("ref".to_owned(), &session, Vec::new())
}

#[test]
fn a_solve_has_all_that_was_asked_for() {
    let request = BuildRequest {
        target: Some("prod".into()),
        labels: map(&[("l", "1")]),
        ..request(
            "type=registry,ref=r.io/app:cache,mode=max",
            &["type=image,push=true"],
        )
    };
    let solve = solve_request(&planned(&request));
    assert_eq!(
        (solve.build_ref.as_str(), solve.session.as_str()),
        ("ref", "session")
    );
    assert_eq!(solve.frontend, "dockerfile.v0");
    let expected = map(&[
        ("filename", "Dockerfile"),
        ("label:l", "1"),
        // Inputs come after the request's own attributes.
        ("target", "of the inputs"),
        ("vcs:revision", "abc"),
    ]);
    assert_eq!(solve.attrs, expected);
    assert_eq!(solve.exporters[0].attrs["name"], "r.io/app");
    assert_eq!(solve.cache_exports[0].kind, "registry");
    assert!(!solve.internal && solve.cache_imports.is_empty());
}

#[test]
fn attempts_differ_in_name_and_imports_alone() {
    let plan = planned(&request("type=registry,ref=r.io/app:cache,via=client", &[]));
    let session = SessionNames {
        id: "session".to_owned(),
        upload_url: Some("http://buildkit-session/x".to_owned()),
    };
    let import = Entry {
        kind: "registry".into(),
        attrs: map(&[("ref", "r.io/a")]),
    };
    let first = plan.solve_request("1".to_owned(), &session, vec![import.clone()]);
    let second = plan.solve_request("2".to_owned(), &session, Vec::new());
    assert_eq!(
        (first.cache_imports, second.cache_imports),
        (vec![import], vec![])
    );
    assert_eq!(
        first.cache_exports, second.cache_exports,
        "one store for both"
    );
    assert_eq!(first.attrs, second.attrs);
    assert_eq!(first.attrs["context"], "http://buildkit-session/x");
}

#[test]
fn a_call_is_an_internal_solve_that_asks_the_frontend() {
    let request = BuildRequest {
        call: Call::parse("targets").unwrap(),
        ..BuildRequest::default()
    };
    let solve = solve_request(&planned(&request));
    assert!(solve.internal);
    assert_eq!(solve.attrs["requestid"], "frontend.targets");
}

#[test]
fn caches_that_the_builder_does_not_have_are_left_out() {
    let request = BuildRequest {
        cache_to: [CacheTo::parse("type=gha"), CacheTo::parse("r.io/a:c")]
            .into_iter()
            .flat_map(Result::unwrap)
            .collect(),
        ..BuildRequest::default()
    };
    let builder = BuilderFacts {
        unsupported: UnsupportedBackends::of(&["gha"]),
        ..new_builder()
    };
    let plan = planned_on(&request, &NodeFacts::default(), &builder).unwrap();
    let kinds: Vec<_> = plan.cache_exports.iter().map(|e| e.kind.as_str()).collect();
    assert_eq!(kinds, ["registry"]);
}

#[test]
fn what_the_builder_is_too_old_for_is_refused() {
    let two = request("", &["type=image", "type=local,dest=x"]);
    let old = BuilderFacts::default();
    let refused = planned_on(&two, &NodeFacts::default(), &old).unwrap_err();
    assert_eq!(refused, PlanError::Export(ExportError::Several));
    assert_eq!(planned(&two).exports.len(), 2);
    let attested = BuildRequest {
        attests: [("sbom".to_owned(), Some(String::new()))].into(),
        ..BuildRequest::default()
    };
    let refused = planned_on(&attested, &NodeFacts::default(), &old).unwrap_err();
    assert_eq!(refused, PlanError::Attr(AttrError::Attestations));
}

#[test]
fn images_depend_on_the_node_and_on_the_environment() {
    let request = BuildRequest {
        no_oci_artifact: true,
        build_args: map(&[(BUILDINFO_ARG, "true")]),
        ..request("", &["type=image"])
    };
    let node = NodeFacts {
        had_uncompressed: true,
        ..NodeFacts::default()
    };
    let attrs = |builder: &BuilderFacts| {
        let plan = planned_on(&request, &node, builder).unwrap();
        plan.exports[0].entry.attrs.clone()
    };
    let new = attrs(&new_builder());
    assert_eq!(new["force-compression"], "true");
    assert_eq!(new["buildinfo-attrs"], "true");
    assert_eq!(new["oci-artifact"], "false");
    assert!(!attrs(&BuilderFacts::default()).contains_key("oci-artifact"));
}
