//! Where the bytes of an upload come from, and whether they can be read again.

use std::fmt;
use std::io::{self, SeekFrom};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use futures_util::stream::{self, Stream, StreamExt as _};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _, AsyncWriteExt as _};
use tokio_util::io::ReaderStream;

use super::spool_dir::SpoolDir;

/// A stream of bytes.
pub type ByteStream = Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>;

/// Size of the pieces that are read from files.
const PIECE: usize = 256 * 1024;

/// The bytes of an upload.
pub enum BlobSource {
    /// In memory; for small blobs.
    Bytes(Bytes),
    /// A file, opened for each attempt.
    File(PathBuf),
    /// A stream that is kept in a spool file while it is read, so it can be read again. Without the file
    /// it ends with its first reader, and an upload that breaks then is reported with
    /// [`SourceSpent`](super::RegistryError::SourceSpent).
    Spool(Arc<Spool>),
}

impl fmt::Debug for BlobSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(bytes) => f.debug_tuple("Bytes").field(&bytes.len()).finish(),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Spool(_) => f.write_str("Spool"),
        }
    }
}

impl BlobSource {
    /// Takes a stream and keeps what is read of it in an unnamed file in `dir`, at most `limit`
    /// bytes. The file takes no place any more once the source is dropped. If it cannot be made or
    /// written, `dir` keeps why and the stream can be read once.
    pub fn spooled(
        stream: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
        dir: &SpoolDir,
        limit: u64,
    ) -> Self {
        Self::Spool(Arc::new(Spool::new(Box::pin(stream), dir, limit)))
    }

    /// Returns whether another reader can be opened.
    pub fn is_readable(&self) -> bool {
        match self {
            Self::Spool(spool) => !spool.is_spent(),
            Self::Bytes(_) | Self::File(_) => true,
        }
    }

    /// Returns whether a reader can be opened again after one that has read.
    pub(super) async fn is_repeatable(&self) -> bool {
        match self {
            Self::Spool(spool) => spool.state.lock().await.file.is_some(),
            Self::Bytes(_) | Self::File(_) => true,
        }
    }

    /// Opens a reader at the first byte; `None` if the bytes could be read only once and were.
    ///
    /// # Errors
    /// A file cannot be opened.
    pub async fn open(&self) -> io::Result<Option<ByteStream>> {
        Ok(match self {
            Self::Bytes(bytes) => Some(Box::pin(stream::iter([Ok(bytes.clone())]))),
            Self::File(path) => {
                let file = fs_err::tokio::File::open(path).await?;
                Some(Box::pin(ReaderStream::with_capacity(file, PIECE)))
            }
            Self::Spool(spool) => (!spool.is_spent()).then(|| Spool::read(Arc::clone(spool))),
        })
    }
}

/// A stream with a file that holds what was read of it.
///
/// Readers may be dropped at any moment and opened again; two at once get in each other's way
/// but never see wrong bytes.
pub struct Spool {
    state: tokio::sync::Mutex<SpoolState>,
    limit: u64,
    dir: SpoolDir,
    /// There is no file, and the first byte of the stream has gone to a reader.
    spent: AtomicBool,
}

struct SpoolState {
    /// The file and its folder; none if it could not be made or written.
    file: Option<(tokio::fs::File, PathBuf)>,
    /// Bytes of the stream that are in the file, or would be.
    written: u64,
    /// Taken from the stream and not yet known to be in the file: a reader that is dropped while
    /// it writes must not lose bytes.
    pending: Option<Bytes>,
    rest: Rest,
}

enum Rest {
    More(ByteStream),
    End,
    Failed(io::ErrorKind, String),
}

impl fmt::Debug for Spool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spool")
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

impl Spool {
    fn new(stream: ByteStream, dir: &SpoolDir, limit: u64) -> Self {
        let opened = dir.open();
        let file = opened.map(|(file, folder)| (tokio::fs::File::from_std(file), folder.into()));
        let state = SpoolState {
            file,
            written: 0,
            pending: None,
            rest: Rest::More(stream),
        };
        Self {
            state: tokio::sync::Mutex::new(state),
            limit,
            dir: dir.clone(),
            spent: AtomicBool::new(false),
        }
    }

    fn is_spent(&self) -> bool {
        self.spent.load(Ordering::Acquire)
    }

    fn read(spool: Arc<Self>) -> ByteStream {
        Box::pin(stream::unfold(
            (spool, Some(0_u64)),
            |(spool, at)| async move {
                let at = at?;
                match spool.piece(at).await {
                    Ok(None) => None,
                    Ok(Some(bytes)) => {
                        let next = at + bytes.len() as u64;
                        Some((Ok(bytes), (spool, Some(next))))
                    }
                    Err(error) => Some((Err(error), (spool, None))),
                }
            },
        ))
    }

    async fn piece(&self, at: u64) -> io::Result<Option<Bytes>> {
        let mut state = self.state.lock().await;
        self.save_pending(&mut state).await;
        if at < state.written {
            return state.read_back(at).await.map(Some);
        }
        loop {
            let next = match &mut state.rest {
                Rest::More(stream) => stream.next().await,
                Rest::End => return Ok(None),
                Rest::Failed(kind, text) => return Err(io::Error::new(*kind, text.clone())),
            };
            match next {
                None => state.rest = Rest::End,
                Some(Err(error)) => state.rest = Rest::Failed(error.kind(), error.to_string()),
                Some(Ok(bytes)) if bytes.is_empty() => {}
                Some(Ok(bytes)) => {
                    if state.written + bytes.len() as u64 > self.limit {
                        let text = format!("the spool is limited to {} bytes", self.limit);
                        state.rest = Rest::Failed(io::ErrorKind::FileTooLarge, text);
                        continue;
                    }
                    state.pending = Some(bytes.clone());
                    self.save_pending(&mut state).await;
                    return Ok(Some(bytes));
                }
            }
        }
    }
}

impl Spool {
    /// Keeps the last piece. A file that does not take it is given up, which frees its place, too.
    async fn save_pending(&self, state: &mut SpoolState) {
        let Some(bytes) = state.pending.clone() else {
            return;
        };
        if let Some((file, folder)) = &mut state.file
            && let Err(error) = append(file, state.written, &bytes).await
        {
            self.dir.fails(folder, &error);
            state.file = None;
        }
        if state.file.is_none() {
            self.spent.store(true, Ordering::Release);
        }
        state.written += bytes.len() as u64;
        state.pending = None;
    }
}

async fn append(file: &mut tokio::fs::File, at: u64, bytes: &[u8]) -> io::Result<()> {
    file.seek(SeekFrom::Start(at)).await?;
    file.write_all(bytes).await?;
    file.flush().await
}

impl SpoolState {
    async fn read_back(&mut self, at: u64) -> io::Result<Bytes> {
        let left = usize::try_from(self.written - at)
            .unwrap_or(PIECE)
            .min(PIECE);
        let Some((file, _)) = &mut self.file else {
            return Err(io::Error::other("the bytes were not kept"));
        };
        file.seek(SeekFrom::Start(at)).await?;
        let mut buffer = vec![0; left];
        file.read_exact(&mut buffer).await?;
        Ok(buffer.into())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn pieces(list: &'static [&'static str]) -> impl Stream<Item = io::Result<Bytes>> {
        stream::iter(list.iter().map(|p| Ok(Bytes::from_static(p.as_bytes()))))
    }

    async fn all(mut stream: ByteStream) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        while let Some(piece) = stream.next().await {
            out.extend_from_slice(&piece?);
        }
        Ok(out)
    }

    #[tokio::test]
    async fn bytes_and_files_are_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("blob");
        fs_err::write(&path, "abc").unwrap();
        for source in [
            BlobSource::Bytes(Bytes::from_static(b"abc")),
            BlobSource::File(path),
        ] {
            for _ in 0..2 {
                assert_eq!(
                    all(source.open().await.unwrap().unwrap()).await.unwrap(),
                    b"abc"
                );
            }
        }
        assert!(
            BlobSource::File(dir.path().join("absent"))
                .open()
                .await
                .is_err()
        );
    }

    #[tokio::test]
    async fn a_spooled_stream_goes_on_where_its_last_reader_stopped() {
        let dir = tempfile::tempdir().unwrap();
        let source = BlobSource::spooled(pieces(&["ab", "", "cd", "ef"]), &dir.path().into(), 100);
        let mut first = source.open().await.unwrap().unwrap();
        assert_eq!(first.next().await.unwrap().unwrap(), "ab");
        drop(first);
        let mut second = source.open().await.unwrap().unwrap();
        assert_eq!(second.next().await.unwrap().unwrap(), "ab");
        assert_eq!(second.next().await.unwrap().unwrap(), "cd");
        drop(second);
        for _ in 0..2 {
            assert_eq!(
                all(source.open().await.unwrap().unwrap()).await.unwrap(),
                b"abcdef"
            );
        }
        assert_eq!(fs_err::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn a_reader_dropped_in_the_middle_of_a_write_loses_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let data: Vec<u8> = (0..4_000_000_u32)
            .map(|n| u8::try_from(n % 251).unwrap())
            .collect();
        let stream = stream::iter(
            data.chunks(300_000)
                .map(|c| Ok(Bytes::copy_from_slice(c)))
                .collect::<Vec<_>>(),
        );
        let source = BlobSource::spooled(stream, &dir.path().into(), u64::MAX);
        for micros in [0, 1, 10, 50, 100, 300, 700, 1500] {
            let reader = source.open().await.unwrap().unwrap();
            let cut = tokio::time::timeout(Duration::from_micros(micros), all(reader)).await;
            drop(cut);
        }
        assert!(all(source.open().await.unwrap().unwrap()).await.unwrap() == data);
    }

    #[tokio::test]
    async fn a_failure_of_the_stream_and_the_limit_stay() {
        let dir = tempfile::tempdir().unwrap();
        let failing = stream::iter([Ok(Bytes::from_static(b"ab")), Err(io::Error::other("gone"))]);
        let failing = BlobSource::spooled(failing, &dir.path().into(), 100);
        let small = BlobSource::spooled(pieces(&["ab", "cd"]), &dir.path().into(), 3);
        for _ in 0..2 {
            let error = all(failing.open().await.unwrap().unwrap())
                .await
                .unwrap_err();
            assert_eq!(error.to_string(), "gone");
            let error = all(small.open().await.unwrap().unwrap()).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
        }
    }

    #[tokio::test]
    async fn without_a_spool_file_a_stream_is_read_once() {
        let gone = SpoolDir::from(std::path::Path::new("/does/not/exist"));
        let source = BlobSource::spooled(pieces(&["ab", "cd"]), &gone, 100);
        drop(source.open().await.unwrap().unwrap());
        assert!(source.is_readable(), "nothing has been read yet");
        let read = all(source.open().await.unwrap().unwrap()).await.unwrap();
        assert_eq!(read, b"abcd");
        assert!(!source.is_readable());
        assert!(source.open().await.unwrap().is_none());
        assert!(gone.remark().unwrap().contains("/does/not/exist"));
    }

    #[tokio::test]
    async fn a_spool_file_that_cannot_be_written_loses_no_byte() {
        let dir = SpoolDir::from(std::path::Path::new("/full"));
        let spool = Spool::new(Box::pin(pieces(&["ab", "cd", "ef"])), &dir, 100);
        // A file that takes nothing, as on a full disk.
        let full = fs_err::OpenOptions::new()
            .write(true)
            .open("/dev/full")
            .unwrap();
        let full = tokio::fs::File::from_std(full.into_parts().0);
        spool.state.lock().await.file = Some((full, "/full".into()));
        let source = BlobSource::Spool(Arc::new(spool));
        let read = all(source.open().await.unwrap().unwrap()).await.unwrap();
        assert_eq!(read, b"abcdef");
        assert!(!source.is_readable());
    }
}
