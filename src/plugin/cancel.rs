//! What cancels a command: SIGINT, SIGTERM, SIGHUP, and the end of docker's plugin socket.

use std::io;

use tokio::io::AsyncReadExt as _;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::exit;
use crate::platform::signals::Signals;
use crate::platform::sockets::{self, LocalStream};

/// The first signal cancels, the second ends what is done after a cancellation, such as keeping a
/// cache. This one ends the program at once, as in buildx.
const FORCED_EXIT: u32 = 3;

/// Watches until it is dropped.
#[derive(Debug)]
pub struct CancelWatch {
    _tasks: JoinSet<()>,
}

impl CancelWatch {
    /// Begins to watch the signals, and the socket that docker named in `DOCKER_CLI_PLUGIN_SOCKET`. A
    /// socket that cannot be connected to is ignored: an older or newer docker is no reason to fail.
    /// `hurry` is cancelled by the second signal.
    ///
    /// # Errors
    ///
    /// Fails if the system gives no signal handler.
    pub fn start(
        token: &CancellationToken,
        hurry: &CancellationToken,
        socket: Option<&str>,
    ) -> io::Result<Self> {
        let mut tasks = JoinSet::new();
        let mut signals = Signals::catch()?;
        let (on_signal, hurry) = (token.clone(), hurry.clone());
        tasks.spawn(async move {
            let mut count = 0;
            loop {
                signals.next().await;
                count += 1;
                if count > 1 {
                    hurry.cancel();
                }
                on_signal.cancel();
                if count >= FORCED_EXIT {
                    exit_now();
                }
            }
        });
        if let Some(name) = socket.filter(|name| !name.is_empty()) {
            match sockets::connect_named(name) {
                Ok(stream) => {
                    tasks.spawn(wait_for_end(stream, token.clone()));
                }
                Err(error) => tracing::debug!(%error, "no connection to docker's plugin socket"),
            }
        }
        Ok(Self { _tasks: tasks })
    }
}

#[expect(
    clippy::exit,
    reason = "the user asked three times; nothing may hold the process"
)]
fn exit_now() {
    std::process::exit(i32::from(exit::CANCELLED));
}

async fn wait_for_end(mut stream: LocalStream, token: CancellationToken) {
    let mut byte = [0];
    loop {
        match stream.read(&mut byte).await {
            Ok(0) => {
                token.cancel();
                return;
            }
            Ok(_) => {}
            Err(error) => {
                tracing::debug!(%error, "docker's plugin socket broke");
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::time::Duration;

    use super::*;

    async fn cancelled(token: &CancellationToken) -> bool {
        tokio::time::timeout(Duration::from_secs(5), token.cancelled())
            .await
            .is_ok()
    }

    async fn end_of_socket_cancels(listener: UnixListener, name: String) {
        let token = CancellationToken::new();
        let _watch = CancelWatch::start(&token, &CancellationToken::new(), Some(&name)).unwrap();
        let (mut peer, _) = listener.accept().unwrap();
        io::Write::write_all(&mut peer, b"ignored").unwrap();
        tokio::time::sleep(Duration::from_millis(30)).await;
        assert!(!token.is_cancelled());
        drop(peer);
        assert!(cancelled(&token).await);
    }

    #[tokio::test]
    async fn end_of_a_socket_file_cancels() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let listener = UnixListener::bind(&path).unwrap();
        end_of_socket_cancels(listener, path.to_str().unwrap().to_owned()).await;
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn end_of_an_abstract_socket_cancels() {
        use std::os::linux::net::SocketAddrExt as _;
        use std::os::unix::net::SocketAddr;
        let name = format!("docker_cli_cachex_test_{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let listener = UnixListener::bind_addr(&address).unwrap();
        end_of_socket_cancels(listener, format!("@{name}")).await;
    }

    #[tokio::test]
    async fn absent_socket_is_ignored() {
        let token = CancellationToken::new();
        for socket in [
            None,
            Some(""),
            Some("/nowhere/s"),
            Some("@cachex_nobody_listens"),
        ] {
            drop(CancelWatch::start(&token, &CancellationToken::new(), socket).unwrap());
        }
        assert!(!token.is_cancelled());
    }
}
