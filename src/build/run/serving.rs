//! The session of a build while it is served.

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::buildkit::Client;
use crate::buildkit::session::{Session, tunnel};

/// A session that is served until it is ended.
pub(super) struct Serving {
    tasks: JoinSet<Option<String>>,
    end: CancellationToken,
    /// Why it ended by itself.
    pub(super) lost: Option<String>,
}

impl Serving {
    /// Serves a session beside the solve.
    pub(super) fn start(client: &Client, session: Session) -> Self {
        let (channel, end) = (client.channel(), CancellationToken::new());
        let mut tasks = JoinSet::new();
        let ended = end.clone();
        tasks.spawn(async move {
            let opened = tokio::select! {
                opened = tunnel::open(channel, session.metadata()) => opened,
                () = ended.cancelled() => return None,
            };
            let why = match opened {
                Ok(stream) => match session.serve(stream, ended.clone()).await {
                    Ok(()) => "the builder has ended it".to_owned(),
                    Err(error) => crate::error::chain(&error),
                },
                Err(status) => crate::error::chain(&status),
            };
            (!ended.is_cancelled()).then_some(why)
        });
        Self {
            tasks,
            end,
            lost: None,
        }
    }

    /// Ends it, and waits until it has ended.
    pub(super) async fn end(&mut self) {
        self.end.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            self.lost = ended.unwrap_or_else(|error| Some(crate::error::chain(&error)));
        }
        if let Some(why) = &self.lost {
            tracing::debug!(why, "the session ended before the build");
        }
    }
}
