//! The remote driver: a builder's BuildKit behind sockets, TLS, `docker exec` and ssh.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::Arc;

use fs_err as fs;
use rustls::RootCertStore;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::support::rig::{Builder, Client, Rig, context, text, unique};

fn pem(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/it/tls")
        .join(name)
}

/// Listens as buildkitd would, and hands each connection on to a builder's BuildKit.
struct Daemon {
    _runtime: Runtime,
    address: String,
}

impl Daemon {
    fn unix(builder: &Builder<'_>, path: &Path) -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let listener = {
            let _inside = runtime.enter();
            UnixListener::bind(path).expect("a socket")
        };
        let container = builder.container();
        runtime.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(pass(stream, container.clone()));
            }
        });
        Self {
            _runtime: runtime,
            address: format!("unix://{}", path.display()),
        }
    }

    fn tls(builder: &Builder<'_>) -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let listener = runtime
            .block_on(TcpListener::bind("127.0.0.1:0"))
            .expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let (container, acceptor) = (builder.container(), acceptor());
        runtime.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (container, acceptor) = (container.clone(), acceptor.clone());
                connections.spawn(async move {
                    // Some tests want to be refused.
                    if let Ok(stream) = acceptor.accept(stream).await {
                        pass(stream, container).await;
                    }
                });
            }
        });
        Self {
            _runtime: runtime,
            address: format!("tcp://127.0.0.1:{port}"),
        }
    }
}

fn acceptor() -> TlsAcceptor {
    let certificate = |name| CertificateDer::from_pem_file(pem(name)).expect("a certificate");
    let mut roots = RootCertStore::empty();
    roots
        .add(certificate("ca.pem"))
        .expect("a certificate authority");
    let provider = Arc::new(ring::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .build()
            .expect("a verifier");
    let key = PrivateKeyDer::from_pem_file(pem("server-key.pem")).expect("a key");
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![certificate("server.pem")], key)
        .expect("a certificate and its key");
    // As gRPC servers do: who does not ask for HTTP/2 is refused.
    config.alpn_protocols = vec![b"h2".to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

async fn pass(mut stream: impl AsyncRead + AsyncWrite + Unpin, container: String) {
    let args = ["exec", "-i", &container, "buildctl", "dial-stdio"];
    let child = tokio::process::Command::new("docker")
        .args(args)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn();
    let mut child = child.expect("the docker CLI");
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let mut daemon = tokio::io::join(stdout.expect("a pipe"), stdin.expect("a pipe"));
    // Either side may end the connection in its own way.
    let passed = tokio::io::copy_bidirectional(&mut stream, &mut daemon).await;
    drop(passed);
}

fn failure(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stdout));
    text(&output.stderr)
}

/// Builds over a remote builder and looks at what came out.
fn builds(client: &Client, builder: &str) {
    let word = unique("word");
    let dockerfile = format!(
        "FROM {} AS made\nCOPY file /file\nRUN cat /file > /said\nFROM scratch\nCOPY --from=made /said /\n",
        Rig::get().busybox
    );
    let folder = context(&[("Dockerfile", &dockerfile), ("file", &word)]);
    let out = tempfile::tempdir().expect("a folder");
    let output = format!("type=local,dest={}", out.path().display());
    let folder = folder.path().to_str().expect("UTF-8");
    client.docker_ok(&[
        "cachex",
        "build",
        "--builder",
        builder,
        "--output",
        &output,
        folder,
    ]);
    assert_eq!(
        fs::read_to_string(out.path().join("said")).expect("a file"),
        word
    );
}

/// The peer uses the builder that cachex made, and both say the same of it.
fn both_know(client: &Client, builder: &str, status: &str) {
    let inspect = |tool: &str| {
        let (text, _) = client.docker_ok(&[tool, "inspect", builder]);
        let lines = text.lines();
        // The peer shows driver options in any order, and the moment of the last use changes.
        let lines =
            lines.filter(|l| !l.starts_with("Driver Options:") && !l.starts_with("Last Activity:"));
        lines
            .map(str::trim_end)
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let ours = inspect("cachex");
    assert!(
        ours.iter()
            .any(|line| line.starts_with("Status:") && line.ends_with(status)),
        "{ours:?}"
    );
    let unaligned = |lines: &[String]| -> Vec<String> {
        let words = lines
            .iter()
            .map(|l| l.split_whitespace().collect::<Vec<_>>().join(" "));
        words.collect()
    };
    assert_eq!(unaligned(&ours), unaligned(&inspect("buildx")));
    let ls = |tool: &str| client.docker_ok(&[tool, "ls", "--format", "json"]).0;
    assert_eq!(ls("cachex"), ls("buildx"));
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn a_unix_socket_is_a_builder() {
    let client = Rig::get().client();
    let behind = client.builder("cachex");
    let socket = client.config().join("b.sock");
    let daemon = Daemon::unix(&behind, &socket);
    let name = unique("remote");
    let create = [
        "cachex",
        "create",
        "--name",
        &name,
        "--driver",
        "remote",
        "--bootstrap",
    ];
    let mut command = client.command(&create);
    // As buildctl, create takes the address from the environment.
    let output = command
        .env("BUILDKIT_HOST", &daemon.address)
        .output()
        .expect("the docker CLI");
    assert!(output.status.success(), "{}", text(&output.stderr));
    both_know(&client, &name, "running");
    builds(&client, &name);
    let du = |tool: &str| {
        client
            .docker_ok(&[tool, "du", "--builder", &name, "--format", "{{.ID}}"])
            .0
    };
    assert_eq!(du("cachex"), du("buildx"));
    client.docker_ok(&["cachex", "stop", &name]);
    both_know(&client, &name, "running");

    drop(daemon);
    fs::remove_file(&socket).expect("the socket");
    both_know(&client, &name, "inactive");
    let folder = context(&[("Dockerfile", "FROM scratch\n")]);
    let folder = folder.path().to_str().expect("UTF-8");
    let error = failure(&client.docker(&["cachex", "build", "--builder", &name, folder]));
    assert!(
        error.contains("cannot connect to BuildKit at unix://"),
        "{error}"
    );
    assert!(error.contains("hint: is buildkitd running"), "{error}");
    client.docker_ok(&["cachex", "rm", &name]);
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn tls_is_spoken_with_the_certificates_of_the_options() {
    let client = Rig::get().client();
    let behind = client.builder("cachex");
    let daemon = Daemon::tls(&behind);
    let create = |files: &[(&str, &str)]| {
        let name = unique("tls");
        let options: Vec<String> = files
            .iter()
            .map(|(key, file)| format!("{key}={}", pem(file).display()))
            .collect();
        let options = options.join(",");
        let mut args = vec!["cachex", "create", "--name", &name, "--driver", "remote"];
        if !options.is_empty() {
            args.extend(["--driver-opt", &options]);
        }
        args.push(&daemon.address);
        client.docker_ok(&args);
        name
    };
    let all = [
        ("cacert", "ca.pem"),
        ("cert", "client.pem"),
        ("key", "client-key.pem"),
    ];
    let good = create(&all);
    both_know(&client, &good, "running");
    builds(&client, &good);

    let folder = context(&[("Dockerfile", "FROM scratch\n")]);
    let folder = folder.path().to_str().expect("UTF-8");
    let refused =
        |name: &str| failure(&client.docker(&["cachex", "build", "--builder", name, folder]));
    // A certificate authority that did not sign the server's certificate.
    let error = refused(&create(&[
        ("cacert", "client.pem"),
        ("cert", "client.pem"),
        ("key", "client-key.pem"),
    ]));
    assert!(error.contains("certificate"), "{error}");
    assert!(
        error.contains("hint: do the certificates belong together"),
        "{error}"
    );
    // The server wants a certificate of the client.
    let error = refused(&create(&[("cacert", "ca.pem")]));
    assert!(error.to_lowercase().contains("certificate"), "{error}");
    // No TLS at all.
    let error = refused(&create(&[]));
    assert!(
        error.contains("it speaks TLS") || error.contains("closed the connection"),
        "{error}"
    );
    assert!(error.contains("--driver-opt cacert="), "{error}");
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn a_container_is_a_builder() {
    let client = Rig::get().client();
    let behind = client.builder("cachex");
    let address = format!("docker-container://{}", behind.container());
    let name = unique("inside");
    // buildx takes the driver from the address.
    client.docker_ok(&["cachex", "create", "--name", &name, &address]);
    both_know(&client, &name, "running");
    builds(&client, &name);
    client.docker_ok(&["cachex", "stop", &behind.name]);
    both_know(&client, &name, "inactive");
}

/// A folder with a program that is found before others.
fn program(name: &str, script: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join(name);
    fs::write(&path, script).expect("a file");
    fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("a program");
    folder
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn ssh_and_kubectl_reach_a_builder() {
    let client = Rig::get().client();
    let behind = client.builder("cachex");
    let paths = std::env::var("PATH").expect("a path");
    for (tool, address, words) in [
        (
            "ssh",
            "ssh://me@far:2222",
            "-l me -p 2222 -- far buildctl dial-stdio",
        ),
        (
            "kubectl",
            "kube-pod://pod?namespace=n",
            "--namespace=n exec",
        ),
    ] {
        let log = client.config().join(format!("{tool}.log"));
        let script = format!(
            "#!/bin/sh\necho \"$*\" >> {}\nexec docker exec -i {} buildctl dial-stdio\n",
            log.display(),
            behind.container()
        );
        let folder = program(tool, &script);
        let path = format!("{}:{paths}", folder.path().display());
        let name = unique(tool);
        let run = |args: &[&str]| {
            let output = client
                .command(args)
                .env("PATH", &path)
                .output()
                .expect("the docker CLI");
            assert!(output.status.success(), "{}", text(&output.stderr));
            text(&output.stdout)
        };
        run(&[
            "cachex", "create", "--name", &name, "--driver", "remote", address,
        ]);
        let shown = run(&["cachex", "inspect", &name]);
        assert!(shown.contains("running"), "{shown}");
        let du = run(&["cachex", "du", "--builder", &name]);
        assert!(du.contains("Total:"), "{du}");
        let said = fs::read_to_string(&log).expect("the arguments");
        assert!(said.contains(words), "{said}");
    }

    let folder = program(
        "ssh",
        "#!/bin/sh\necho 'Permission denied (publickey).' >&2\nexit 255\n",
    );
    let path = format!("{}:{paths}", folder.path().display());
    let name = unique("ssh");
    client.docker_ok(&[
        "cachex",
        "create",
        "--name",
        &name,
        "--driver",
        "remote",
        "ssh://far",
    ]);
    let mut du = client.command(&["cachex", "du", "--builder", &name]);
    let error = failure(&du.env("PATH", &path).output().expect("the docker CLI"));
    assert!(error.contains("Permission denied (publickey)."), "{error}");
    assert!(error.contains("exit status: 255"), "{error}");
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn wrong_addresses_and_options_make_no_builder() {
    let client = Rig::get().client();
    for (args, want) in [
        (&["--driver", "remote"][..], "no remote endpoint provided"),
        (
            &["--driver", "remote", "http://h:1"],
            "unrecognized url scheme http",
        ),
        (&["--driver", "remote", "tcp://h"], "it has no port"),
        (
            &["--driver", "remote", "ssh://u:secret@h"],
            "takes no password",
        ),
        (
            &[
                "tcp://h:1",
                "--driver",
                "remote",
                "--driver-opt",
                "cacert=ca.pem",
            ],
            "an absolute path",
        ),
        (
            &[
                "tcp://h:1",
                "--driver",
                "remote",
                "--driver-opt",
                "servername=x",
            ],
            "missing keys cacert",
        ),
        (
            &["tcp://h:1", "--driver", "remote", "--driver-opt", "image=x"],
            "invalid driver option image for remote driver",
        ),
        (
            &[
                "tcp://h:1",
                "--driver",
                "remote",
                "--buildkitd-flags=--debug",
            ],
            "buildkit flags",
        ),
    ] {
        let mut all = vec!["cachex", "create"];
        all.extend(args);
        let error = failure(&client.docker(&all));
        assert!(error.contains(want), "{args:?}: {error}");
        assert!(!error.contains("secret@"), "{error}");
    }
    let instances = client.config().join("buildx/instances");
    assert_eq!(fs::read_dir(instances).expect("the store").count(), 0);
}
