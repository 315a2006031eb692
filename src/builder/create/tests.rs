use super::*;
use crate::builder::store::Store;
use crate::docker::config::ConfigFile;
use crate::docker::context::EndpointOptions;
use crate::env::Env;

struct World {
    dir: tempfile::TempDir,
    txn: Transaction,
    contexts: Contexts,
}

async fn world(env: &[(&str, &str)]) -> World {
    let dir = tempfile::tempdir().unwrap();
    let meta = dir.path().join("contexts/meta/x");
    fs_err::create_dir_all(&meta).unwrap();
    let id = hex::encode(<sha2::Sha256 as sha2::Digest>::digest("other"));
    let meta = meta.with_file_name(id);
    fs_err::create_dir_all(&meta).unwrap();
    fs_err::write(
        meta.join("meta.json"),
        r#"{"Name":"other","Metadata":{},"Endpoints":{"docker":{"Host":"tcp://o:1","SkipTLSVerify":false}}}"#,
    )
    .unwrap();
    let env = Env::from_pairs(env.iter().copied(), dir.path());
    let contexts = Contexts::new(
        dir.path(),
        dir.path(),
        &ConfigFile::default(),
        &EndpointOptions::default(),
        &env,
    )
    .unwrap();
    let txn = Store::new(dir.path().join("buildx"), None)
        .begin()
        .await
        .unwrap();
    World { dir, txn, contexts }
}

impl World {
    fn plan(&self, request: &CreateRequest) -> Result<CreatePlan, CreateError> {
        request.plan(&self.txn, &self.contexts)
    }

    fn saved(&self, request: &CreateRequest) -> NodeGroup {
        let plan = self.plan(request).unwrap();
        self.txn.save(&plan.group).unwrap();
        plan.group
    }

    fn refused(&self, request: &CreateRequest) -> String {
        crate::error::chain(&self.plan(request).unwrap_err())
    }
}

fn named(name: &str) -> CreateRequest {
    CreateRequest {
        name: name.to_owned(),
        ..CreateRequest::default()
    }
}

#[tokio::test]
async fn the_plain_case() {
    let world = world(&[]).await;
    let group = world.saved(&named("foo"));
    assert_eq!(
        serde_json::to_string(&group).unwrap(),
        r#"{"Name":"foo","Driver":"docker-container","Nodes":[{"Name":"foo0","Endpoint":"unix:///var/run/docker.sock","Platforms":null,"DriverOpts":null,"Flags":["--allow-insecure-entitlement=network.host"],"Files":null}],"Dynamic":false}"#
    );
    let random = world.saved(&CreateRequest::default());
    assert!(random.name.contains('_'));
    assert_eq!(random.nodes[0].name, format!("{}0", random.name));
}

#[tokio::test]
async fn endpoints() {
    let world = world(&[("DOCKER_HOST", "tcp://here:2375")]).await;
    for (given, driver, expected) in [
        ("", "", "tcp://here:2375"),
        ("default", "", "tcp://here:2375"),
        ("other", "", "other"),
        ("unix:///x.sock", "docker-container", "unix:///x.sock"),
        ("tcp://h", "docker-container", "tcp://h:2375"),
        ("tcp://b:1234", "remote", "tcp://b:1234"),
        ("unix:///run/buildkit.sock", "", "unix:///run/buildkit.sock"),
    ] {
        let request = CreateRequest {
            endpoint: given.to_owned(),
            driver: driver.to_owned(),
            ..named("foo")
        };
        let group = world.plan(&request).unwrap().group;
        assert_eq!(group.nodes[0].endpoint, expected, "{given:?}");
    }
    let request = CreateRequest {
        endpoint: "foo://x".to_owned(),
        ..named("foo")
    };
    assert!(
        world
            .refused(&request)
            .starts_with("failed to parse endpoint foo://x")
    );
}

#[tokio::test]
async fn buildkit_host_makes_a_remote_builder() {
    let world = world(&[]).await;
    let mut request = named("foo");
    request.buildkit_host = "tcp://b:1".to_owned();
    let group = world.plan(&request).unwrap().group;
    assert_eq!(group.driver, "remote");
    assert_eq!(group.nodes[0].endpoint, "tcp://b:1");
    assert!(group.nodes[0].flags.is_empty());
    request.endpoint = "other".to_owned();
    assert_eq!(
        world.plan(&request).unwrap().group.driver,
        "docker-container"
    );
    let nothing = CreateRequest {
        driver: "remote".to_owned(),
        ..named("foo")
    };
    assert_eq!(world.refused(&nothing), "no remote endpoint provided");
    let scheme = CreateRequest {
        endpoint: "http://x".to_owned(),
        ..nothing
    };
    assert_eq!(world.refused(&scheme), "unrecognized url scheme http");
}

#[tokio::test]
async fn refusals_are_those_of_buildx() {
    let world = world(&[]).await;
    world.saved(&named("there"));
    let with = |change: &dyn Fn(&mut CreateRequest)| {
        let mut request = named("foo");
        change(&mut request);
        request
    };
    for (request, text) in [
        (
            named("default"),
            "default is a reserved name and cannot be used to identify builder instance",
        ),
        (
            CreateRequest {
                append: true,
                ..CreateRequest::default()
            },
            "append requires a builder name",
        ),
        (
            named("other"),
            "instance name \"other\" already exists as context builder",
        ),
        (
            with(&|r| r.append = true),
            "failed to find instance \"foo\" for append",
        ),
        (
            named("there"),
            "existing instance for \"there\" but no append mode, specify the node name to make changes for existing instances",
        ),
        (
            with(&|r| r.driver = "docker".to_owned()),
            "additional instances of driver \"docker\" cannot be created",
        ),
        (
            with(&|r| r.driver = "foo".to_owned()),
            "failed to find driver \"foo\"",
        ),
        (
            with(&|r| {
                r.name = "there".to_owned();
                r.append = true;
                r.driver = "remote".to_owned();
            }),
            "existing instance for \"there\" but has mismatched driver \"docker-container\"",
        ),
        (
            with(&|r| r.driver_opts = vec!["network".to_owned()]),
            "bad driver option: invalid value \"network\", expecting k=v",
        ),
        (
            named("1x"),
            "invalid name 1x, name needs to start with a letter and may not contain symbols, except ._-",
        ),
        (
            with(&|r| r.buildkitd_flags = "'".to_owned()),
            "failed to parse buildkit flags: end of text found when expecting closing quote",
        ),
    ] {
        assert_eq!(world.refused(&request), text);
    }
    assert!(
        world
            .refused(&with(&|r| r.driver = "kubernetes".to_owned()))
            .contains("not supported yet")
    );
    assert!(
        world
            .refused(&with(&|r| r.platforms = vec!["a/b/c/d".to_owned()]))
            .contains("at most OS/ARCH/VARIANT")
    );
}

#[tokio::test]
async fn append_and_change() {
    let world = world(&[]).await;
    world.saved(&named("foo"));
    let second = CreateRequest {
        append: true,
        endpoint: "other".to_owned(),
        platforms: vec!["linux/arm64,linux/arm".to_owned()],
        ..named("foo")
    };
    let group = world.saved(&second);
    assert_eq!(group.nodes[1].name, "foo1");
    assert_eq!(group.nodes[1].endpoint, "other");
    let again = world.refused(&second);
    assert_eq!(again, "invalid duplicate endpoint other");
    let change = CreateRequest {
        node: "foo1".to_owned(),
        driver_opts: vec!["memory=1g".to_owned()],
        ..named("foo")
    };
    let plan = world.plan(&change).unwrap();
    assert!(plan.needs_restart);
    assert_eq!(plan.group.nodes[1].endpoint, "other");
    assert_eq!(plan.group.nodes[1].driver_opts["memory"], "1g");
    assert_eq!(plan.group.nodes[1].platforms.len(), 2);
    assert_eq!(plan.original.unwrap().nodes.len(), 2);
}

#[tokio::test]
async fn tls_from_the_environment_is_refused() {
    let world = world(&[("DOCKER_HOST", "tcp://h:2376"), ("DOCKER_TLS_VERIFY", "1")]).await;
    assert!(
        world
            .refused(&named("foo"))
            .contains("TLS data loaded from environment")
    );
}

#[tokio::test]
async fn the_configuration_comes_along() {
    let world = world(&[]).await;
    let path = world.dir.path().join("b.toml");
    fs_err::write(&path, "debug = true\n").unwrap();
    let request = CreateRequest {
        buildkitd_config: Some(path),
        ..named("foo")
    };
    let group = world.plan(&request).unwrap().group;
    assert_eq!(group.nodes[0].files["buildkitd.toml"].0, b"debug = true\n");
    let missing = CreateRequest {
        buildkitd_config: Some("/nonexistent.toml".into()),
        ..named("foo")
    };
    assert!(world.refused(&missing).contains("/nonexistent.toml"));
}
