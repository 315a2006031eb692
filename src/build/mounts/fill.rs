//! A mount on its way into the builder: packs fetched, and sent as a tar stream to the script in the container.

use std::io;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::FILES;
use super::errors::RestoreError;
use super::script;
use crate::buildkit::RpcError;
use crate::buildkit::container::{PIECE, Process, Said};
use crate::cache::export::ExportProgress;
use crate::cache::extras::mounts::{Mount, Packs};
use crate::mounts::Index;
use crate::mounts::index::PackRef;
use crate::mounts::pipe::PipeWriter;
use crate::mounts::unpack::{Form, unpack};

/// Pieces of the stream that wait to be sent.
const PIECES: usize = 4;

/// Fetches packs, and shows how much has come. For a thread that may block.
pub(super) struct Received {
    packs: Packs,
    bytes: u64,
    of: u64,
    progress: Arc<dyn ExportProgress>,
}

impl Received {
    pub(super) fn new(packs: Packs, mount: &Mount, progress: &Arc<dyn ExportProgress>) -> Self {
        Self {
            packs,
            bytes: 0,
            of: mount.stored(),
            progress: Arc::clone(progress),
        }
    }

    fn fetch(&mut self, pack: &PackRef) -> io::Result<Vec<u8>> {
        let read = self.packs.fetch(pack)?;
        self.bytes = self.bytes.saturating_add(pack.stored);
        self.progress.part(FILES, self.bytes, self.of);
        Ok(read)
    }
}

/// Sends the mount to the script if that wants it, and returns whether it did.
pub(super) async fn fill(
    mut process: Process,
    index: Index,
    mut packs: Received,
) -> Result<bool, RestoreError> {
    let said = first_line(&mut process).await?;
    let form = match said.as_slice() {
        script::WANT => Some(Form::Container),
        script::WANT_SPARSE => Some(Form::ContainerSparse),
        _ => None,
    };
    let Some(form) = form else {
        process.stdin().close().await.map_err(RpcError::from)?;
        ended(&mut process).await?;
        return match said.as_slice() {
            script::HAVE => Ok(false),
            script::NONE => Err(RestoreError::NoTar),
            _ => Err(RestoreError::Odd),
        };
    };
    let (pieces, mut output) = mpsc::channel(PIECES);
    let unpacking = tokio::task::spawn_blocking(move || {
        let fetch = &mut |pack: &PackRef| packs.fetch(pack);
        unpack(&index, fetch, PipeWriter::new(pieces, PIECE), form)
    });
    let stdin = process.stdin();
    let write = async {
        while let Some(piece) = output.recv().await {
            stdin.write(piece).await?;
        }
        stdin.close().await
    };
    let (written, ended) = tokio::join!(write, ended(&mut process));
    drop(output);
    let unpacked = unpacking.await.map_err(|_| RestoreError::Thread)?;
    if let Err(error) = unpacked
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        return Err(RestoreError::Files(error));
    }
    ended?;
    written.map_err(RpcError::from)?;
    Ok(true)
}

async fn first_line(process: &mut Process) -> Result<Vec<u8>, RestoreError> {
    let mut said = Vec::new();
    while !said.ends_with(b"\n") {
        match process.first().await.map_err(RpcError::from)? {
            Said::Output(bytes) => said.extend(bytes),
            Said::Ended(code) => return Err(RestoreError::ended(code, process)),
        }
    }
    Ok(said)
}

/// Waits until the script has ended.
async fn ended(process: &mut Process) -> Result<(), RestoreError> {
    loop {
        match process.next().await.map_err(RpcError::from)? {
            Said::Output(_) => {}
            Said::Ended(0) => return Ok(()),
            Said::Ended(code) => return Err(RestoreError::ended(code, process)),
        }
    }
}
