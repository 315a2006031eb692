//! What can go wrong with a builder, and what the user can do about it.

use crate::docker::context::ContextError;
use crate::docker::engine::EngineError;
use crate::docker::tls::TlsError;

use super::create::CreateError;
use super::driver::config_tar::TarError;
use super::driver::container_options::OptionError;
use super::driver::remote::preflight::NotBuildKit;
use super::gha::GhaError;
use super::group::GroupError;
use super::store::StoreError;

/// A builder that cannot be found, booted or reached.
#[derive(Debug, thiserror::Error)]
pub enum BuilderError {
    /// There is no builder and no docker context of the name.
    #[error("no builder {name:?} found")]
    NotFound {
        /// The name.
        name: String,
    },
    /// The name is that of a docker context other than the current one.
    #[error("use `docker --context={name} cachex` to switch to context {name:?}")]
    OtherContext {
        /// The context.
        name: String,
    },
    /// The builder is the BuildKit inside the Docker engine.
    #[error(
        "builder {name:?} uses the docker driver, which cachex does not build with: the BuildKit inside the Docker engine exports caches to a registry or a folder, which is what cachex works with, only with the containerd image store; without it there are inline caches alone"
    )]
    DockerDriver {
        /// The builder, which is a docker context.
        name: String,
        /// Builders in the store that could be used instead.
        others: Vec<String>,
    },
    /// The signature of the builder's image would have to be checked.
    #[error(
        "BUILDX_DEFAULT_POLICY asks for the signature of {image} to be checked, which this version of cachex does not do"
    )]
    Unverified {
        /// The image.
        image: String,
    },
    /// The builder is of a driver that is not made yet.
    #[error("builder {name:?} uses the {driver} driver, which is not supported yet")]
    DriverNotSupported {
        /// The builder.
        name: String,
        /// Its driver.
        driver: String,
    },
    /// The address of a remote BuildKit is wrong.
    #[error("cannot use the address {address:?} of a remote BuildKit: {reason}")]
    RemoteAddress {
        /// The address.
        address: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// The TLS files of a remote node cannot be used.
    #[error("cannot set up TLS for node {node:?}")]
    RemoteTls {
        /// The node.
        node: String,
        /// The cause.
        #[source]
        source: TlsError,
    },
    /// Something else than BuildKit answers at a remote address.
    #[error("there is no BuildKit at {address}: {reason}")]
    RemoteNotBuildKit {
        /// The address.
        address: String,
        /// What answers there.
        reason: NotBuildKit,
        /// The node has no certificates, and they could help.
        wants_tls: bool,
    },
    /// A remote BuildKit cannot be reached.
    #[error("cannot connect to BuildKit at {address}")]
    RemoteConnect {
        /// Its address.
        address: String,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// A remote BuildKit takes neither configuration nor flags from the client.
    #[error("setting {what} is not supported for remote driver")]
    RemoteSetting {
        /// What was set.
        what: &'static str,
    },
    /// The container of a node is not there or does not run.
    #[error("container {container} of node {node:?} is not running")]
    NotRunning {
        /// The node.
        node: String,
        /// The container.
        container: String,
    },
    /// The container of a node was paused.
    #[error("container {container} of node {node:?} is paused")]
    Paused {
        /// The node.
        node: String,
        /// The container.
        container: String,
    },
    /// The image of the builder is neither there nor can it be pulled.
    #[error("cannot pull the builder image {image}")]
    Pull {
        /// The image.
        image: String,
        /// The cause.
        #[source]
        source: EngineError,
    },
    /// The container of a node does not work.
    #[error("container {container} of builder {builder:?} is broken: {reason}")]
    Broken {
        /// The builder.
        builder: String,
        /// The container.
        container: String,
        /// What is wrong.
        reason: String,
        /// The last lines of its log.
        logs: String,
    },
    /// The container runs, and BuildKit in it does not answer.
    #[error("BuildKit in container {container} of builder {builder:?} does not answer: {reason}")]
    NoAnswer {
        /// The builder.
        builder: String,
        /// The container.
        container: String,
        /// How that was seen.
        reason: String,
        /// The last lines of its log.
        logs: String,
    },
    /// A connection was made, and nothing came over it.
    #[error("BuildKit of node {node:?} has not answered for {seconds} s")]
    Silent {
        /// The node.
        node: String,
        /// How long it had.
        seconds: u64,
    },
    /// The container runs, but there is no BuildKit in it.
    #[error(
        "container {container} of builder {builder:?} runs the image {image}, which is not BuildKit: {reason}"
    )]
    NotBuildKit {
        /// The builder.
        builder: String,
        /// The container.
        container: String,
        /// Its image.
        image: String,
        /// How that was seen.
        reason: String,
    },
    /// The driver options of the node are wrong.
    #[error(transparent)]
    Option(#[from] OptionError),
    /// The files of the node are wrong.
    #[error(transparent)]
    Tar(#[from] TarError),
    /// The context of the GitHub Actions job cannot be read.
    #[error(transparent)]
    Gha(#[from] GhaError),
    /// The Docker engine failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The docker contexts cannot be read.
    #[error(transparent)]
    Context(#[from] ContextError),
    /// The store cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The arguments of `create` are refused.
    #[error(transparent)]
    Create(#[from] CreateError),
    /// A change of the nodes is refused.
    #[error(transparent)]
    Group(#[from] GroupError),
    /// A new builder does not work, so it was not kept.
    #[error("failed to initialize builder {builder} ({node}): {reason}")]
    Initialize {
        /// The builder.
        builder: String,
        /// The node.
        node: String,
        /// What is wrong with the node.
        reason: String,
    },
    /// Another process changed the builder again and again.
    #[error("builder {name:?} is being changed by another process")]
    Busy {
        /// The builder.
        name: String,
    },
}

impl BuilderError {
    /// Returns what the user can do, one sentence each.
    pub fn hints(&self) -> Vec<String> {
        let hint = match self {
            Self::NotFound { .. } => "list the builders with: docker cachex ls".to_owned(),
            Self::DockerDriver { others, .. } => return docker_driver_hints(others),
            Self::Broken { container, .. } => {
                format!("its log may say more: docker logs {container}")
            }
            Self::NoAnswer { container, .. } => {
                format!("start it again with: docker restart {container}")
            }
            Self::NotBuildKit { .. } => {
                "create a builder with an image of BuildKit: docker cachex create --use --driver-opt image=moby/buildkit:buildx-stable-1".to_owned()
            }
            Self::Pull { .. } => {
                "name another image with: docker cachex create --driver-opt image=REF".to_owned()
            }
            Self::Unverified { .. } => {
                "docker buildx inspect --bootstrap checks it; --driver-opt allow-untrusted-image=true goes without".to_owned()
            }
            Self::Paused { container, .. } => {
                format!("let it run with: docker unpause {container}")
            }
            Self::Create(CreateError::Kubernetes) => {
                "docker buildx creates such builders: docker buildx create --driver kubernetes".to_owned()
            }
            Self::DriverNotSupported { name, .. } => return unsupported_hints(name),
            Self::RemoteConnect { source, .. } => return connect_hints(source),
            Self::RemoteTls { .. } => {
                "the files are those of the driver options cacert, cert and key".to_owned()
            }
            Self::RemoteNotBuildKit {
                wants_tls: true, ..
            } => "if it wants TLS, name the certificates: docker cachex create --driver-opt cacert=FILE,cert=FILE,key=FILE".to_owned(),
            Self::NotRunning { .. } => "boot it with: docker cachex inspect --bootstrap".to_owned(),
            Self::Engine(error) => return error.hint().map(str::to_owned).into_iter().collect(),
            Self::Context(error) => return error.hint().map(str::to_owned).into_iter().collect(),
            _ => return Vec::new(),
        };
        vec![hint]
    }

    /// Returns whether waiting could help: a BuildKit that is coming up.
    pub fn may_pass(&self) -> bool {
        use std::io::ErrorKind as Io;
        match self {
            Self::RemoteConnect { source, .. } => !matches!(
                source.kind(),
                Io::PermissionDenied | Io::InvalidData | Io::InvalidInput | Io::Unsupported
            ),
            Self::RemoteNotBuildKit { reason, .. } => reason.may_pass(),
            Self::Engine(error) => error.may_pass(),
            Self::Silent { .. } => true,
            _ => false,
        }
    }

    /// Returns the lines that stand before the message: the log of a broken container.
    pub fn detail(&self) -> String {
        match self {
            Self::Broken { logs, .. } | Self::NoAnswer { logs, .. } => logs.clone(),
            _ => String::new(),
        }
    }
}

fn unsupported_hints(name: &str) -> Vec<String> {
    vec![
        format!("docker buildx works with this builder: docker buildx --builder {name} …"),
        "create a builder for cachex with: docker cachex create --use".to_owned(),
    ]
}

fn connect_hints(source: &std::io::Error) -> Vec<String> {
    use std::io::ErrorKind as Io;
    let hint = match source.kind() {
        Io::ConnectionRefused | Io::NotFound => "is buildkitd running, and does it listen there?",
        Io::PermissionDenied => "may your user open the socket?",
        Io::InvalidData => "do the certificates belong together, and to that host?",
        _ => return Vec::new(),
    };
    vec![hint.to_owned()]
}

fn docker_driver_hints(others: &[String]) -> Vec<String> {
    let mut hints = vec![
        "create a builder with: docker cachex create --use".to_owned(),
        "or build with docker buildx; CACHEX_HAND_ON=1 hands such builds on to it".to_owned(),
    ];
    if let Some(first) = others.first() {
        hints.push(format!(
            "or take one that exists ({}) with: docker cachex use {first}",
            others.join(", ")
        ));
    }
    hints
}
