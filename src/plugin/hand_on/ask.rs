//! Asking a program what it is, in docker's words, with a time limit.

use std::io::{self, Read as _};
use std::path::Path;
use std::process::{Child, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use super::GUARD;
use crate::child;
use crate::platform::process;
use crate::plugin::{METADATA_COMMAND, Metadata};

/// No metadata is longer.
const LONGEST: u64 = 1 << 20;
/// Time between two looks at a program that has said everything and not ended.
const POLL: Duration = Duration::from_millis(2);

/// What came of the question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// It is a plugin.
    Plugin(Metadata),
    /// It is none, or cannot be run.
    NotOne,
    /// It did not end in time, and was ended.
    Silent,
}

/// Asks a program; it and what it has started are ended after `limit`.
pub(super) fn ask(path: &Path, limit: Duration) -> Answer {
    let mut command = child::std_command(path);
    command.arg(METADATA_COMMAND).env(GUARD, "1");
    command.stdin(Stdio::null()).stderr(Stdio::null());
    process::in_own_group(command.stdout(Stdio::piped()));
    let Ok(mut started) = command.spawn() else {
        return Answer::NotOne;
    };
    match outcome(&mut started, Instant::now() + limit) {
        Ok(Some((status, output))) => understand(status, &output),
        Ok(None) => {
            end(&mut started);
            Answer::Silent
        }
        Err(error) => {
            tracing::debug!(%error, path = %path.display(), "a program cannot be asked what it is");
            end(&mut started);
            Answer::NotOne
        }
    }
}

fn understand(status: ExitStatus, output: &[u8]) -> Answer {
    match serde_json::from_slice::<Metadata>(output) {
        Ok(metadata) if status.success() && !metadata.vendor.is_empty() => Answer::Plugin(metadata),
        _ => Answer::NotOne,
    }
}

/// Returns how the program ended and what it said; `None` if it has not ended by then.
fn outcome(child: &mut Child, until: Instant) -> io::Result<Option<(ExitStatus, Vec<u8>)>> {
    let stdout = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
    let (send, receive) = mpsc::sync_channel(1);
    // Not joined: a program that has left its group may hold the pipe for as long as it likes.
    thread::spawn(move || {
        let mut output = Vec::new();
        let read = stdout.take(LONGEST).read_to_end(&mut output);
        // Nobody listens after the time limit.
        let _ = send.send(read.map(|_| output));
    });
    let left = until.saturating_duration_since(Instant::now());
    let Ok(output) = receive.recv_timeout(left) else {
        return Ok(None);
    };
    let output = output?;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some((status, output)));
        }
        if Instant::now() >= until {
            return Ok(None);
        }
        thread::sleep(POLL);
    }
}

fn end(child: &mut Child) {
    let ended = process::kill_group(child).and_then(|()| child.wait());
    if let Err(error) = ended {
        tracing::debug!(%error, "a program that does not answer cannot be ended");
    }
}
