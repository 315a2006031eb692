use super::*;

/// A docker configuration folder with a context store in it.
struct Store(tempfile::TempDir);

impl Store {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn context(self, name: &str, meta: &str, tls: &[&str]) -> Self {
        let id = hex::encode(Sha256::digest(name));
        let contexts = self.0.path().join("contexts");
        let dir = contexts.join("meta").join(&id);
        fs_err::create_dir_all(&dir).unwrap();
        fs_err::write(dir.join("meta.json"), meta).unwrap();
        let dir = contexts.join("tls").join(&id).join("docker");
        for file in tls {
            fs_err::create_dir_all(&dir).unwrap();
            fs_err::write(dir.join(file), "pem").unwrap();
        }
        self
    }

    fn remote(self) -> Self {
        self.context(
            "remote",
            r#"{"Name":"remote","Metadata":{"Description":"x"},"Endpoints":{"docker":{"Host":"tcp://r:2376","SkipTLSVerify":true}}}"#,
            &["ca.pem", "cert.pem", "key.pem"],
        )
    }

    fn with(
        &self,
        options: &EndpointOptions,
        current: &str,
        env: &[(&str, &str)],
    ) -> Result<Contexts, ContextError> {
        let config = ConfigFile {
            current_context: current.to_owned(),
            ..ConfigFile::default()
        };
        let env = Env::from_pairs(env.iter().copied(), "/home/u");
        Contexts::new(self.0.path(), self.0.path(), &config, options, &env)
    }
}

fn options(context: &str, host: &str) -> EndpointOptions {
    let given = |text: &str| Some(text.to_owned()).filter(|t| !t.is_empty());
    EndpointOptions {
        context: given(context),
        hosts: given(host).into_iter().collect(),
        ..EndpointOptions::default()
    }
}

#[test]
fn choice_follows_the_order_of_docker() {
    let store = Store::new().remote();
    let host = (DOCKER_HOST, "tcp://env:1");
    let context = (DOCKER_CONTEXT, "from-env");
    for (flags, env, current, want, key) in [
        (("flag", ""), &[host, context][..], "cfg", "flag", "flag"),
        (
            ("", "tcp://h:1"),
            &[host, context],
            "cfg",
            "default",
            "tcp://h:1",
        ),
        (("", ""), &[host, context], "cfg", "default", "tcp://env:1"),
        (("", ""), &[context], "cfg", "from-env", "from-env"),
        (("", ""), &[], "cfg", "cfg", "cfg"),
        (
            ("", ""),
            &[(DOCKER_HOST, ""), (DOCKER_CONTEXT, "")],
            "cfg",
            "cfg",
            "cfg",
        ),
        (("", ""), &[], "", "default", "unix:///var/run/docker.sock"),
        (("default", ""), &[host], "cfg", "default", "tcp://env:1"),
    ] {
        let contexts = store
            .with(&options(flags.0, flags.1), current, env)
            .unwrap();
        assert_eq!(contexts.current_name(), want, "{flags:?} {env:?}");
        assert_eq!(contexts.context_key(), key, "{flags:?} {env:?}");
    }
}

#[test]
fn flags_that_exclude_each_other_are_refused() {
    let store = Store::new();
    let both = store.with(&options("a", "tcp://h:1"), "", &[]).unwrap_err();
    assert!(matches!(both, ContextError::HostAndContext));
    let mut two = options("", "tcp://h:1");
    two.hosts.push("tcp://h:2".to_owned());
    let two = store.with(&two, "", &[]).unwrap_err();
    assert!(matches!(two, ContextError::ManyHosts));
    let bad = store.with(&options("", "foo://h"), "", &[]).unwrap_err();
    assert!(matches!(bad, ContextError::Host(_)));
}

#[test]
fn context_has_host_and_tls_files() {
    let store = Store::new().remote();
    let endpoint = store
        .with(&options("remote", ""), "", &[])
        .unwrap()
        .current()
        .unwrap();
    assert_eq!(endpoint.host, "tcp://r:2376");
    assert_eq!(endpoint.context_name, "remote");
    assert!(endpoint.skip_verify);
    let tls = endpoint.tls.unwrap();
    for (file, name) in [
        (tls.ca, "ca.pem"),
        (tls.cert, "cert.pem"),
        (tls.key, "key.pem"),
    ] {
        assert!(file.unwrap().ends_with(Path::new("docker").join(name)));
    }
}

#[test]
fn broken_and_missing_contexts_are_told_apart() {
    let store = Store::new()
        .context("broken", "{", &[])
        .context("list", "[]", &[])
        .context(
            "kube",
            r#"{"Name":"kube","Endpoints":{"kubernetes":{}}}"#,
            &[],
        );
    let contexts = store.with(&options("none", ""), "", &[]).unwrap();
    let missing = contexts.current().unwrap_err();
    assert_eq!(missing.to_string(), "docker context \"none\" not found");
    assert!(missing.hint().is_some());
    for name in ["broken", "list"] {
        let broken = contexts.get(name).unwrap_err();
        assert!(matches!(broken, ContextError::Parse { .. }), "{broken}");
    }
    let kube = contexts.get("kube").unwrap_err();
    assert!(matches!(kube, ContextError::NoEndpoint { .. }));
    assert!(contexts.names().is_err());
}

#[test]
fn node_endpoints_are_contexts_or_addresses() {
    let store = Store::new().remote();
    let contexts = store
        .with(&options("", ""), "remote", &[(DOCKER_HOST, "unix:///e")])
        .unwrap();
    for (given, host, name) in [
        ("remote", "tcp://r:2376", "remote"),
        ("default", "unix:///e", "default"),
        ("", "unix:///e", "default"),
        ("unix:///x.sock", "unix:///x.sock", "unix:///x.sock"),
        ("tcp://h", "tcp://h:2375", "tcp://h"),
    ] {
        let endpoint = contexts.resolve(given).unwrap();
        assert_eq!(endpoint.host, host, "{given}");
        assert_eq!(endpoint.context_name, name, "{given}");
    }
    let neither = contexts.resolve("nothing").unwrap_err();
    assert!(matches!(
        neither,
        ContextError::NeitherContextNorHost { .. }
    ));
}

#[test]
fn names_are_sorted_behind_the_default() {
    let store = Store::new();
    let contexts = store.with(&options("", ""), "", &[]).unwrap();
    assert_eq!(contexts.names().unwrap(), ["default"]);
    let store = store.context("zeta", r#"{"Name":"zeta"}"#, &[]).remote();
    let contexts = store.with(&options("", ""), "", &[]).unwrap();
    assert_eq!(contexts.names().unwrap(), ["default", "remote", "zeta"]);
}

#[test]
fn tls_of_the_default_context() {
    let store = Store::new();
    let certs = store.0.path().join("certs");
    fs_err::create_dir(&certs).unwrap();
    fs_err::write(certs.join("cert.pem"), "x").unwrap();
    let cert_path = (DOCKER_CERT_PATH, certs.to_str().unwrap());
    let default = |options: &EndpointOptions, env: &[(&str, &str)]| {
        store.with(options, "", env).unwrap().current().unwrap()
    };
    let plain = default(&options("", ""), &[cert_path]);
    assert_eq!((plain.tls, plain.skip_verify), (None, false));

    let verified = default(&options("", ""), &[cert_path, (DOCKER_TLS_VERIFY, "1")]);
    assert_eq!(verified.host, "tcp://127.0.0.1:2376");
    assert!(!verified.skip_verify);
    let tls = verified.tls.unwrap();
    assert_eq!(
        tls.ca,
        Some(certs.join("ca.pem")),
        "needed, so it fails later where it is missing"
    );
    assert_eq!(tls.cert, Some(certs.join("cert.pem")));
    assert_eq!(tls.key, None, "the file is not there");

    let unverified = default(&options("", "tcp://h:1"), &[(DOCKER_TLS, "1")]);
    assert!(unverified.skip_verify && unverified.tls.is_some());
    let flag_off = EndpointOptions {
        tls_verify: Some(false),
        ..options("", "tcp://h:1")
    };
    assert!(default(&flag_off, &[(DOCKER_TLS_VERIFY, "1")]).skip_verify);
    let files = EndpointOptions {
        tls: true,
        tls_key: Some("/k".into()),
        ..options("", "tcp://h:1")
    };
    assert_eq!(default(&files, &[]).tls.unwrap().key, Some("/k".into()));
}
