//! `dial-stdio`: joins standard input and output to the BuildKit of a builder, which is booted first.

use std::io;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};

use crate::builder::load::Probe as _;
use crate::builder::{Absent, Builder, ByteStream, Node, ReachError, resolve};
use crate::error::CommandError;
use crate::options::platform::Platform;
use crate::progress::{Mode, Progress, RenderOptions, Request, tty};

use super::Context;
use super::boot_progress::BootProgress;
use super::docker_env::docker_env;
use super::probe::BuildkitProbe;

/// Size of the buffer of each direction in bytes: a system call for every HTTP/2 frame of 16 KiB
/// would cost more than the copy.
const BUFFER: usize = 1 << 20;

/// Proxy current stdio streams to builder instance
#[derive(Debug, Clone, clap::Args)]
pub struct DialStdioArgs {
    /// Target platform: this is used for node selection
    #[arg(
        long,
        value_name = "string",
        env = "DOCKER_DEFAULT_PLATFORM",
        hide_env = true
    )]
    pub platform: Option<String>,
    /// How progress is shown ("auto", "none", "plain", "rawjson", "tty")
    #[arg(long, value_name = "string", default_value = "none")]
    pub progress: String,
}

/// Runs the command until the builder closes the connection.
///
/// # Errors
///
/// Fails if no node can be connected to, or a stream breaks.
pub async fn run(args: DialStdioArgs, ctx: &Context) -> Result<(), CommandError> {
    let wanted = args.platform.as_deref().filter(|text| !text.is_empty());
    let wanted = wanted
        .map(Platform::parse)
        .transpose()
        .map_err(CommandError::failed)?;
    let mode = mode(&args, ctx)?;
    let docker_env = docker_env(ctx)?;
    let builder = resolve::with_engine(&docker_env, ctx.builder_name(None)).await?;
    let recorded = builder.store().record_activity(builder.name());
    recorded.map_err(crate::builder::BuilderError::from)?;
    let progress = start(mode, &builder, ctx)?;
    let result = Box::pin(join(&builder, wanted.as_ref(), &progress)).await;
    progress.finish().await;
    result
}

fn mode(args: &DialStdioArgs, ctx: &Context) -> Result<Mode, CommandError> {
    let request = Request {
        flag: Some(&args.progress),
        environment: ctx.env.get(crate::env::BUILDKIT_PROGRESS),
        quiet: false,
        is_terminal: ctx.ui.stderr_is_terminal(),
        is_ci: ctx.env.non_empty("CI").is_some(),
    };
    let resolved = crate::progress::resolve(&request).map_err(CommandError::failed)?;
    Ok(resolved.mode)
}

/// Progress goes to standard error: standard output is the builder's.
fn start(mode: Mode, builder: &Builder, ctx: &Context) -> Result<Progress, CommandError> {
    let mut options = RenderOptions::new(io::stderr());
    options.is_terminal = ctx.ui.stderr_is_terminal();
    options.description = format!("builder: {}", builder.name());
    options.terminal_description = format!("builder:{}", builder.name());
    options.size = Box::new(tty::error_size);
    Ok(Progress::start(mode, options)?)
}

async fn join(
    builder: &Builder,
    wanted: Option<&Platform>,
    progress: &Progress,
) -> Result<(), CommandError> {
    let step = progress.sender().step("Proxying to builder");
    let dialling = progress.sender().step("Dialing builder");
    let stream = match dial(builder, wanted, progress).await {
        Ok(stream) => stream,
        Err(error) => {
            dialling.fail(&error);
            step.fail(&error);
            return Err(error);
        }
    };
    dialling.done();
    match proxy(stream, tokio::io::stdin(), tokio::io::stdout()).await {
        Ok(()) => {
            step.done();
            Ok(())
        }
        Err(error) => {
            step.fail(&error);
            Err(error.into())
        }
    }
}

/// Connects to the first node that has the platform and can be reached.
async fn dial(
    builder: &Builder,
    wanted: Option<&Platform>,
    progress: &Progress,
) -> Result<ByteStream, CommandError> {
    let mut failed: Option<CommandError> = None;
    for node in builder.nodes() {
        match dial_node(node, wanted, progress, builder.nodes().len() > 1).await {
            Ok(Some(stream)) => return Ok(stream),
            Ok(None) => {}
            Err(error) => failed = Some(error),
        }
    }
    Err(failed.unwrap_or_else(|| match wanted {
        Some(platform) => CommandError::failed(format!(
            "no node of builder {:?} builds for {platform}",
            builder.name()
        )),
        None => CommandError::failed(format!("builder {:?} has no nodes", builder.name())),
    }))
}

/// Returns nothing for a node without the platform.
async fn dial_node(
    node: &Node,
    wanted: Option<&Platform>,
    progress: &Progress,
    several: bool,
) -> Result<Option<ByteStream>, CommandError> {
    let mut boot = BootProgress::new(progress, several);
    let mut emit = |event| boot.event(event);
    let authority = node.driver().authority();
    let probe = &BuildkitProbe;
    let speak = |stream| probe.probe(stream, authority);
    let report = match node.reach(Absent::Boot, &mut emit, speak).await {
        Ok(report) => report,
        Err(ReachError::Node(error)) => return Err(error.into()),
        Err(ReachError::Speech(error)) => return Err(CommandError::failed(error.text)),
    };
    if let Some(wanted) = wanted {
        let workers = report.workers.iter().flat_map(|worker| &worker.platforms);
        let mut all = node.stored().platforms.iter().chain(workers);
        if !all.any(|platform| platform.to_string() == wanted.to_string()) {
            return Ok(None);
        }
    }
    // The first stream has spoken: who joins this one starts again.
    Ok(Some(node.driver().dial().await?))
}

/// Passes bytes both ways. The end of the input closes one direction only: answers still under way
/// must arrive. The end of the output ends the whole.
async fn proxy(
    stream: impl AsyncRead + AsyncWrite,
    input: impl AsyncRead + Unpin,
    mut output: impl AsyncWrite + Unpin,
) -> io::Result<()> {
    let (read, mut write) = tokio::io::split(stream);
    let send = async {
        let mut input = BufReader::with_capacity(BUFFER, input);
        tokio::io::copy_buf(&mut input, &mut write).await?;
        write.shutdown().await
    };
    let receive = async {
        let mut read = BufReader::with_capacity(BUFFER, read);
        tokio::io::copy_buf(&mut read, &mut output).await?;
        output.flush().await
    };
    tokio::pin!(send, receive);
    tokio::select! {
        received = &mut receive => unless_closed(received),
        done = &mut send => {
            // A builder that is gone has closed the output, too, which says more.
            unless_closed(done)?;
            unless_closed(receive.await)
        }
    }
}

/// A side that has closed its end has heard enough.
fn unless_closed(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use tokio::io::AsyncReadExt as _;

    #[tokio::test]
    async fn answers_arrive_after_the_end_of_the_input() {
        let (near, mut far) = tokio::io::duplex(64);
        let (mut typed, input) = tokio::io::duplex(64);
        let (output, mut shown) = tokio::io::duplex(64);
        let server = async {
            let mut question = String::new();
            far.read_to_string(&mut question).await.unwrap();
            far.write_all(question.to_uppercase().as_bytes())
                .await
                .unwrap();
            drop(far);
        };
        let user = async {
            typed.write_all(b"hello").await.unwrap();
            drop(typed);
            let mut answer = String::new();
            shown.read_to_string(&mut answer).await.unwrap();
            answer
        };
        let (proxied, (), answer) = tokio::join!(proxy(near, input, output), server, user);
        proxied.unwrap();
        assert_eq!(answer, "HELLO");
    }

    #[tokio::test]
    async fn the_builders_end_is_the_end_though_the_input_stays_open() {
        let (near, far) = tokio::io::duplex(64);
        let (_typed, input) = tokio::io::duplex(64);
        drop(far);
        let proxied = proxy(near, input, tokio::io::sink());
        tokio::time::timeout(Duration::from_secs(5), proxied)
            .await
            .unwrap()
            .unwrap();
    }
}
