use std::io::Cursor;

use super::*;

fn spec(dir: &Path, context: &str) -> InputSpec {
    InputSpec {
        context: context.into(),
        current_dir: dir.to_owned(),
        ..Default::default()
    }
}

fn resolve(spec: &InputSpec, stdin: impl FnOnce() -> Stdin) -> Result<Inputs, InputError> {
    Inputs::resolve(spec, "n0de", stdin)
}

fn no_stdin() -> Stdin {
    panic!("standard input must not be read")
}

fn text(data: &'static str) -> impl FnOnce() -> Stdin {
    move || Stdin::new(Cursor::new(data))
}

#[test]
fn folder_is_context_and_dockerfile() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("app")).unwrap();
    let inputs = resolve(&spec(dir.path(), "app"), no_stdin).unwrap();
    assert_eq!(inputs.shared_key, "app:n0de");
    assert_eq!(inputs.local_dirs["context"], dir.path().join("app"));
    assert_eq!(inputs.local_dirs["dockerfile"], dir.path().join("app"));
    assert_eq!(inputs.attrs["filename"], "Dockerfile");
    assert!(!inputs.attrs.contains_key("dockerfilekey"));
}

#[test]
fn dot_has_the_name_of_the_working_folder_in_the_shared_key() {
    let dir = tempfile::tempdir().unwrap();
    let work = dir.path().join("project");
    fs::create_dir(&work).unwrap();
    assert_eq!(
        resolve(&spec(&work, "."), no_stdin).unwrap().shared_key,
        "project:n0de"
    );
    assert_eq!(base_name(Path::new("/a/b/../c/.")), "c");
    assert_eq!(base_name(Path::new("/")), "/");
}

#[test]
fn file_flag_is_relative_to_the_working_folder() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("ctx")).unwrap();
    fs::create_dir_all(dir.path().join("docker")).unwrap();
    let mut spec = spec(dir.path(), "ctx");
    spec.dockerfile = Some("docker/Prod.Dockerfile".into());
    let inputs = resolve(&spec, no_stdin).unwrap();
    assert_eq!(inputs.local_dirs["dockerfile"], dir.path().join("docker"));
    assert_eq!(inputs.attrs["filename"], "Prod.Dockerfile");
}

#[test]
fn lower_case_name_is_taken_only_where_there_is_no_other() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("dockerfile"), "").unwrap();
    let name = |d: &Path| resolve(&spec(d, "."), no_stdin).unwrap().attrs["filename"].clone();
    assert_eq!(name(dir.path()), "dockerfile");
    fs::write(dir.path().join("Dockerfile"), "").unwrap();
    assert_eq!(name(dir.path()), "Dockerfile");
}

#[test]
fn missing_and_wrong_contexts_are_named() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "").unwrap();
    let error = |c: &str| {
        resolve(&spec(dir.path(), c), no_stdin)
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        error("nope"),
        "unable to prepare context: path \"nope\" not found"
    );
    assert_eq!(
        error("file"),
        "unable to prepare context: \"file\" is not a directory"
    );
}

#[test]
fn stdin_is_a_dockerfile_or_an_archive() {
    let dir = tempfile::tempdir().unwrap();
    let inputs = resolve(&spec(dir.path(), "-"), text("FROM scratch\n")).unwrap();
    assert_eq!(inputs.attrs["dockerfilekey"], "dockerfile");
    let written = fs::read_to_string(inputs.local_dirs["dockerfile"].join("Dockerfile")).unwrap();
    assert_eq!(written, "FROM scratch\n");
    assert!(
        inputs.local_dirs["context"]
            .read_dir()
            .unwrap()
            .next()
            .is_none()
    );

    let inputs = resolve(&spec(dir.path(), "-"), text("BZh9…")).unwrap();
    assert!(inputs.upload.is_some());

    let mut both = spec(dir.path(), "-");
    both.dockerfile = Some("-".into());
    assert!(matches!(
        resolve(&both, text("")),
        Err(InputError::StdinTwice)
    ));
    both.dockerfile = Some("Dockerfile".into());
    assert!(matches!(
        resolve(&both, text("FROM scratch")),
        Err(InputError::AmbiguousDockerfile)
    ));
}

#[test]
fn urls_go_to_buildkit_as_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let inputs = resolve(
        &spec(dir.path(), "https://example.com/r.git#main:sub"),
        no_stdin,
    )
    .unwrap();
    assert_eq!(
        inputs.attrs["context"],
        "https://example.com/r.git#main:sub"
    );
    assert!(inputs.local_dirs.is_empty());
    assert!(!inputs.attrs.contains_key("frontend.caps"));
    let inputs = resolve(
        &spec(dir.path(), "https://example.com/r.git?ref=main"),
        no_stdin,
    )
    .unwrap();
    assert_eq!(inputs.attrs["frontend.caps"], git::CAP_GIT_QUERY);
}

#[test]
fn git_urls_with_a_query_become_inputs_where_that_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let url = "https://example.com/r.git?branch=main";
    let mut spec = spec(dir.path(), url);
    spec.git_query_as_input = true;
    spec.named = vec![("lib".into(), url.into())];
    let inputs = resolve(&spec, no_stdin).unwrap();
    assert!(!inputs.attrs.contains_key("context"));
    assert_eq!(inputs.attrs["input:context"], url);
    assert_eq!(inputs.attrs["context:lib"], "input:git_state_context:lib");
    assert_eq!(inputs.attrs["input:context:lib"], url);
    assert_eq!(inputs.attrs["frontend.caps"], CAP_CONTEXTS);
    let names: Vec<_> = inputs.definitions.keys().collect();
    assert_eq!(names, ["context", "dockerfile", "git_state_context:lib"]);
    // No difference between the two but that one may keep its `.git`.
    assert_eq!(
        inputs.definitions["context"],
        inputs.definitions["git_state_context:lib"]
    );
    spec.dockerfile = Some("-".into());
    let from_stdin = resolve(&spec, text("FROM scratch\n")).unwrap();
    assert!(!from_stdin.definitions.contains_key("dockerfile"));
    spec.dockerfile = None;
    spec.keep_git_dir = Some(true);
    let inputs = resolve(&spec, no_stdin).unwrap();
    assert_ne!(
        inputs.definitions["context"],
        inputs.definitions["git_state_context:lib"]
    );

    spec.context = "ssh://git@example.com/r.git?branch=main".into();
    let inputs = resolve(&spec, no_stdin).unwrap();
    assert_eq!(inputs.attrs["context"], spec.context);
    assert!(inputs.attrs["frontend.caps"].contains(git::CAP_GIT_QUERY));

    spec.context = "https://example.com/r.git?depth=1".into();
    let error = resolve(&spec, no_stdin).unwrap_err().to_string();
    assert_eq!(
        error,
        "invalid Git URL \"https://example.com/r.git?depth=1\": unexpected query \"depth\""
    );
}

#[test]
fn named_contexts_become_attributes() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("lib")).unwrap();
    let mut spec = spec(dir.path(), ".");
    spec.named = vec![
        ("base".into(), "docker-image://alpine".into()),
        ("lib".into(), "lib".into()),
        ("context".into(), "lib".into()),
    ];
    let inputs = resolve(&spec, no_stdin).unwrap();
    assert_eq!(inputs.attrs["context:base"], "docker-image://alpine");
    assert_eq!(inputs.attrs["context:lib"], "local:lib");
    assert_eq!(inputs.attrs["sharedkey:localdir:lib"], "lib:n0de");
    assert_eq!(inputs.attrs["context:context"], "local:_context");
    assert_eq!(inputs.local_dirs["_context"], dir.path().join("lib"));
    assert_eq!(inputs.attrs["frontend.caps"], CAP_CONTEXTS);
    spec.named = vec![("x".into(), "missing".into())];
    assert!(matches!(
        resolve(&spec, no_stdin),
        Err(InputError::NamedContext { .. })
    ));
}

#[test]
fn a_dockerfile_from_a_url_has_a_place_here() {
    let dir = tempfile::tempdir().unwrap();
    let url = "https://example.com/x/App.Dockerfile";
    for context in [".", "https://example.com/r.git"] {
        let mut spec = spec(dir.path(), context);
        spec.dockerfile = Some(url.to_owned());
        let inputs = resolve(&spec, no_stdin).unwrap();
        assert_eq!(inputs.attrs["filename"], "Dockerfile");
        assert_eq!(inputs.attrs["dockerfilekey"], "dockerfile");
        assert_eq!(inputs.dockerfile_name, url);
        let fetched = inputs.url_dockerfile.as_ref().unwrap();
        assert_eq!(fetched.url, url);
        let folder = &inputs.local_dirs["dockerfile"];
        assert_eq!(fetched.path, folder.join("Dockerfile"));
        assert!(folder.is_dir());
    }
}

#[test]
fn the_tree_of_a_remote_context_is_made_as_frontends_make_it() {
    let dir = tempfile::tempdir().unwrap();
    let steps = |context: &str| {
        let spec = spec(dir.path(), context);
        let inputs = resolve(&spec, no_stdin).unwrap();
        let tree = inputs.remote_context(&spec).unwrap();
        tree.map(|definition| definition.def.len())
    };
    assert_eq!(steps("."), None);
    assert_eq!(steps("github.com/me/app"), Some(2));
    assert_eq!(steps("https://h/r.git#main"), Some(2));
    assert_eq!(steps("https://h/context.tar"), Some(3));
    let spec = spec(dir.path(), "https://h/r.git?depth=1");
    let inputs = resolve(&spec, no_stdin).unwrap();
    assert!(inputs.remote_context(&spec).is_err());
}

#[test]
fn a_layout_folder_is_a_store_of_the_session() {
    let dir = tempfile::tempdir().unwrap();
    let digest = Digest::of(b"manifest");
    let index = format!(
        r#"{{"manifests":[{{"digest":"{digest}","annotations":{{"org.opencontainers.image.ref.name":"v1"}}}}]}}"#
    );
    fs::create_dir(dir.path().join("layout")).unwrap();
    fs::write(dir.path().join("layout/index.json"), index).unwrap();
    let resolve = |path: &str| {
        let mut spec = spec(dir.path(), ".");
        spec.named = vec![("base".to_owned(), format!("oci-layout://{path}"))];
        resolve(&spec, no_stdin)
    };
    for (path, tag) in [
        ("layout:v1".to_owned(), ":v1"),
        (format!("layout@{digest}"), ""),
    ] {
        let inputs = resolve(&path).unwrap();
        let (store, folder) = inputs.layouts.first_key_value().unwrap();
        assert_eq!(folder.root(), dir.path().join("layout"));
        assert_eq!(
            inputs.attrs["context:base"],
            format!("oci-layout://{store}{tag}@{digest}")
        );
        let stores = ContentStores::default();
        inputs.offer_layouts(&stores);
        assert!(format!("{stores:?}").contains(&format!("oci:{store}")));
    }
    let why = |path: &str| crate::error::chain(&resolve(path).unwrap_err());
    let error = why(&format!("nowhere@{digest}"));
    assert!(error.contains("there is no folder"), "{error}");
    let error = why("nowhere:v1");
    assert!(error.contains("there is no folder"), "{error}");
    fs::create_dir(dir.path().join("empty")).unwrap();
    let error = why("empty");
    assert!(error.contains("has no index.json"), "{error}");
    fs::write(dir.path().join("layout/index.json"), "{").unwrap();
    assert!(matches!(
        resolve("layout:v1"),
        Err(InputError::Layout { .. })
    ));
}

#[test]
fn the_only_manifest_of_a_layout_folder_needs_no_tag() {
    let dir = tempfile::tempdir().unwrap();
    let digest = Digest::of(b"manifest");
    fs::create_dir(dir.path().join("layout")).unwrap();
    let write = |manifests: &str| {
        let index = format!("{{\"manifests\":[{manifests}]}}");
        fs::write(dir.path().join("layout/index.json"), index).unwrap();
    };
    let resolve = |path: &str| {
        let mut spec = spec(dir.path(), ".");
        spec.named = vec![("base".to_owned(), format!("oci-layout://{path}"))];
        resolve(&spec, no_stdin)
    };
    let entry = |tag: &str| {
        let name = "org.opencontainers.image.ref.name";
        format!("{{\"digest\":\"{digest}\",\"annotations\":{{\"{name}\":\"{tag}\"}}}}")
    };
    for only in [entry("v1"), format!("{{\"digest\":\"{digest}\"}}")] {
        write(&only);
        for (path, tag) in [("layout", "latest"), ("layout:v2", "v2")] {
            let inputs = resolve(path).unwrap();
            let context = &inputs.attrs["context:base"];
            assert!(context.ends_with(&format!(":{tag}@{digest}")), "{context}");
        }
    }
    write(&[entry("v1"), entry("v2")].join(","));
    assert!(resolve("layout:v2").is_ok());
    for path in ["layout", "layout:v3"] {
        let error = crate::error::chain(&resolve(path).unwrap_err());
        assert!(error.contains("the folder has v1, v2"), "{error}");
    }
}

#[test]
fn a_folder_comes_before_a_repository_of_that_name() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["github.com/me/app", "git@host", "me@host:r"] {
        fs::create_dir_all(dir.path().join(name)).unwrap();
        let mut spec = spec(dir.path(), name);
        spec.named = vec![("lib".into(), name.into())];
        let inputs = resolve(&spec, no_stdin).unwrap();
        assert_eq!(inputs.local_dirs["context"], dir.path().join(name));
        assert_eq!(inputs.local_dirs["lib"], dir.path().join(name));
        assert!(!spec.context_is_remote());
    }
    for name in ["github.com/me/other", "me@host:other"] {
        let mut spec = spec(dir.path(), name);
        spec.named = vec![("lib".into(), name.into())];
        let inputs = resolve(&spec, no_stdin).unwrap();
        assert_eq!(inputs.attrs["context"], name);
        assert_eq!(inputs.attrs["context:lib"], name);
    }
    // A file of that name is no context.
    fs::write(dir.path().join("github.com/me/file"), "").unwrap();
    let inputs = resolve(&spec(dir.path(), "github.com/me/file"), no_stdin).unwrap();
    assert!(inputs.attrs.contains_key("context"));
}
