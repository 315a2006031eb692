use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bollard_buildkit_proto::moby::filesync::v1::BytesMessage;
use bollard_buildkit_proto::moby::filesync::v1::file_send_client::FileSendClient;
use futures_util::Stream;
use tokio::sync::Semaphore;
use tonic::transport::Channel;

use super::super::Session;
use super::super::testing::{serve, within};
use super::*;

fn session(exports: Exports) -> Session {
    Session::builder().exports(exports).build()
}

/// Sends bytes as the tar exporter does, and returns what the call ends with.
async fn send<S>(channel: &Channel, exporter: usize, data: S) -> Result<(), Status>
where
    S: Stream<Item = BytesMessage> + Send + 'static,
{
    let mut request = Request::new(data);
    let metadata = request.metadata_mut();
    metadata.insert(KEY_EXPORTER, exporter.to_string().parse().unwrap());
    metadata.insert("exporter-md-a", "1".parse().unwrap());
    let mut client = FileSendClient::new(channel.clone());
    let mut replies = client.diff_copy(request).await?.into_inner();
    assert_eq!(replies.message().await?, None);
    Ok(())
}

fn messages(count: usize, size: usize) -> impl Stream<Item = BytesMessage> + Send {
    stream::iter((0..count).map(move |i| BytesMessage {
        data: vec![u8::try_from(i % 251).unwrap(); size],
    }))
}

fn file(path: &std::path::Path) -> Exports {
    let mut exports = Exports::default();
    exports.add(1, Target::Stream(Arc::new(FileSink::new(path))));
    exports
}

fn names(dir: &std::path::Path) -> Vec<String> {
    let entries = fs_err::read_dir(dir).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn file_gets_all_bytes_and_folders_are_made() {
    use std::os::unix::fs::PermissionsExt as _;

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a/b/out.tar");
    let served = serve(session(file(&path))).await;
    assert_eq!(names(dir.path()), Vec::<String>::new(), "made too early");
    within(send(&served.channel, 1, messages(300, 10_000)))
        .await
        .unwrap();
    let expected: Vec<u8> = (0..300_usize)
        .flat_map(|i| vec![u8::try_from(i % 251).unwrap(); 10_000])
        .collect();
    assert!(fs_err::read(&path).unwrap() == expected);
    assert_eq!(names(path.parent().unwrap()), ["out.tar"]);
    let other = dir.path().join("other");
    fs_err::write(&other, "").unwrap();
    let mode = |path| fs_err::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode(&path), mode(&other), "mode of any new file");
    served.end().await;
}

#[tokio::test]
async fn broken_off_stream_leaves_the_old_file_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out.tar");
    fs_err::write(&path, "old").unwrap();
    let exports = file(&path);
    let failures = exports.failures();
    let served = serve(session(exports)).await;
    let endless = messages(4, 1000).chain(stream::pending());
    let call = send(&served.channel, 1, endless);
    tokio::time::timeout(Duration::from_millis(300), call)
        .await
        .expect_err("the call cannot end");
    served.end().await;
    // The thread that writes ends a moment after the session.
    within(async {
        while names(dir.path()) != ["out.tar"] {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert_eq!(fs_err::read(&path).unwrap(), b"old");
    assert!(
        failures.get().is_empty(),
        "the daemon broke off, not the file"
    );
}

#[tokio::test]
async fn failure_of_the_sink_is_told_to_the_daemon_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    let blocker = dir.path().join("file");
    fs_err::write(&blocker, "").unwrap();
    let exports = file(&blocker.join("out.tar"));
    let failures = exports.failures();
    let served = serve(session(exports)).await;
    let error = within(send(&served.channel, 1, messages(1, 1)))
        .await
        .unwrap_err();
    let kept = failures.get();
    assert_eq!(kept.len(), 1);
    assert_eq!(kept[0].exporter, 1);
    assert_eq!(error.message(), kept[0].message);
    let error = within(send(&served.channel, 7, messages(1, 1)))
        .await
        .unwrap_err();
    assert!(error.message().contains("exporter 7 not found"), "{error}");
    served.end().await;
}

#[tokio::test]
async fn full_device_is_a_failure() {
    let exports = file(std::path::Path::new("/dev/full"));
    let failures = exports.failures();
    let served = serve(session(exports)).await;
    let sent = within(send(&served.channel, 1, messages(100, 100_000))).await;
    assert!(sent.is_err());
    assert_eq!(failures.get().len(), 1);
    served.end().await;
}

#[tokio::test]
async fn writer_gets_the_bytes_once() {
    let (theirs, mut ours) = tokio::io::duplex(1 << 20);
    let mut exports = Exports::default();
    exports.add(0, Target::Stream(Arc::new(WriterSink::new(theirs))));
    let served = serve(session(exports)).await;
    within(send(&served.channel, 0, messages(10, 1000)))
        .await
        .unwrap();
    let mut received = Vec::new();
    let read = tokio::io::AsyncReadExt::read_to_end(&mut ours, &mut received);
    within(read).await.unwrap();
    assert_eq!(received.len(), 10_000);
    let error = within(send(&served.channel, 0, messages(1, 1)))
        .await
        .unwrap_err();
    assert!(error.message().contains("twice"), "{error}");
    served.end().await;
}

#[tokio::test]
async fn a_result_that_broke_off_may_be_sent_again_where_nothing_was_handed_on() {
    let metadata = BTreeMap::new;
    let (theirs, mut ours) = tokio::io::duplex(1 << 20);
    let writer = WriterSink::new(theirs);
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    let (to_pipe, to_file) = (FileSink::new(&pipe), FileSink::new(dir.path().join("file")));
    // Both ends, so that opening it waits for nobody.
    let options = fs_err::OpenOptions::new()
        .read(true)
        .write(true)
        .open(&pipe);
    let _reader = options.unwrap();

    for sink in [&writer as &dyn OpenSink, &to_pipe, &to_file] {
        let open = sink.open(metadata()).await.unwrap();
        drop(open);
        assert!(sink.may_open_again());
        let mut open = sink.open(metadata()).await.unwrap();
        open.write(Bytes::from_static(b"first")).await.unwrap();
        open.finish().await.unwrap();
    }
    assert!(to_file.may_open_again());
    assert!(to_file.open(metadata()).await.is_ok());
    for sink in [&writer as &dyn OpenSink, &to_pipe] {
        assert!(!sink.may_open_again());
        let again = sink.open(metadata()).await;
        assert!(again.is_err_and(|error| error.to_string().contains("twice")));
    }
    let mut received = String::new();
    let read = tokio::io::AsyncReadExt::read_to_string(&mut ours, &mut received);
    within(read).await.unwrap();
    assert_eq!(received, "first");
}

/// Counts bytes, and takes a message only with a permit.
#[derive(Clone)]
struct SlowSink {
    permits: Arc<Semaphore>,
    taken: Arc<AtomicUsize>,
    metadata: Arc<Mutex<BTreeMap<String, String>>>,
}

#[tonic::async_trait]
impl OpenSink for SlowSink {
    async fn open(&self, metadata: BTreeMap<String, String>) -> std::io::Result<Box<dyn Sink>> {
        *self.metadata.lock() = metadata;
        Ok(Box::new(self.clone()))
    }
}

#[tonic::async_trait]
impl Sink for SlowSink {
    async fn write(&mut self, data: Bytes) -> std::io::Result<()> {
        self.permits.acquire().await.unwrap().forget();
        self.taken.fetch_add(data.len(), Ordering::Relaxed);
        Ok(())
    }

    async fn finish(self: Box<Self>) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_sink_holds_the_daemon_back() {
    const COUNT: usize = 400;
    const SIZE: usize = 256 << 10;
    let sink = SlowSink {
        permits: Arc::new(Semaphore::new(0)),
        taken: Arc::default(),
        metadata: Arc::default(),
    };
    let mut exports = Exports::default();
    exports.add(0, Target::Stream(Arc::new(sink.clone())));
    let served = serve(session(exports)).await;
    let sent = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&sent);
    let data = stream::iter((0..COUNT).map(move |_| {
        counter.fetch_add(SIZE, Ordering::Relaxed);
        BytesMessage {
            data: vec![7; SIZE],
        }
    }));
    let channel = served.channel.clone();
    let call = tokio::spawn(async move { send(&channel, 0, data).await });
    // Wait until nothing more moves.
    let mut before = usize::MAX;
    while sent.load(Ordering::Relaxed) != before {
        before = sent.load(Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    assert_eq!(sink.taken.load(Ordering::Relaxed), 0);
    assert!((1..24 << 20).contains(&before), "{before} bytes on the way");
    // Meanwhile the session answers other calls.
    let mut health =
        bollard_buildkit_proto::health::health_client::HealthClient::new(served.channel.clone());
    let check = bollard_buildkit_proto::health::HealthCheckRequest::default();
    within(health.check(check)).await.unwrap();

    sink.permits.add_permits(COUNT);
    within(call).await.unwrap().unwrap();
    assert_eq!(sink.taken.load(Ordering::Relaxed), COUNT * SIZE);
    assert_eq!(sink.metadata.lock()["a"], "1");
    served.end().await;
}

/// Sends a directory as the local exporter does.
async fn push(
    channel: &Channel,
    exporter: usize,
    all_platforms: bool,
    root: &std::path::Path,
) -> Result<(), String> {
    use tokio_stream::wrappers::ReceiverStream;
    use tonic::client::Grpc;
    use tonic::codegen::http::uri::PathAndQuery;
    use tonic_prost::ProstCodec;

    let (sender, receiver) = mpsc::channel::<Packet>(16);
    let mut request = Request::new(ReceiverStream::new(receiver));
    let metadata = request.metadata_mut();
    metadata.insert(KEY_EXPORTER, exporter.to_string().parse().unwrap());
    if all_platforms {
        metadata.insert(KEY_MULTI_PLATFORM, "1".parse().unwrap());
    }
    let mut grpc = Grpc::new(channel.clone());
    grpc.ready().await.unwrap();
    let codec = ProstCodec::<Packet, Packet>::default();
    let path = PathAndQuery::from_static(METHODS[0]);
    let packets = grpc
        .streaming(request, path, codec)
        .await
        .map_err(|status| status.message().to_owned())?
        .into_inner();
    fsutil::send(
        root,
        fsutil::Filter::default(),
        fsutil::Attributes::OfRoot,
        packets,
        sender,
    )
    .await
    .map(drop)
    .map_err(|error| crate::error::chain(&error))
}

fn tree(root: &std::path::Path, name: &str, data: &[u8]) -> PathBuf {
    let dir = root.join(name);
    fs_err::create_dir_all(dir.join("sub")).unwrap();
    fs_err::write(dir.join(format!("sub/{name}")), data).unwrap();
    dir
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn directories_and_streams_live_in_one_session() {
    let dir = tempfile::tempdir().unwrap();
    let (dest, tar) = (dir.path().join("new/dest"), dir.path().join("out.tar"));
    let one = tree(dir.path(), "one", &vec![1; 400_000]);
    let two = tree(dir.path(), "two", &vec![2; 300_000]);
    let mut exports = Exports::default();
    let directory = Target::Directory {
        dest: dest.clone(),
        delete: false,
    };
    exports.add(0, directory);
    exports.add(1, Target::Stream(Arc::new(FileSink::new(&tar))));
    let failures = exports.failures();
    let served = serve(session(exports)).await;
    // Two platforms at once into one directory, and the other exporter beside them.
    let (first, second, third) = within(futures_util::future::join3(
        push(&served.channel, 0, true, &one),
        push(&served.channel, 0, true, &two),
        send(&served.channel, 1, messages(10, 1000)),
    ))
    .await;
    first.unwrap();
    second.unwrap();
    third.unwrap();
    assert!(fs_err::read(dest.join("sub/one")).unwrap() == vec![1; 400_000]);
    assert!(fs_err::read(dest.join("sub/two")).unwrap() == vec![2; 300_000]);
    assert_eq!(fs_err::metadata(&tar).unwrap().len(), 10_000);
    assert!(failures.get().is_empty());
    served.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn delete_needs_a_daemon_that_sends_all_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let dest = tree(dir.path(), "dest", b"old");
    let source = tree(dir.path(), "source", b"new");
    let mut exports = Exports::default();
    let directory = Target::Directory {
        dest: dest.clone(),
        delete: true,
    };
    exports.add(0, directory);
    let failures = exports.failures();
    let served = serve(session(exports)).await;
    let error = within(push(&served.channel, 0, false, &source))
        .await
        .unwrap_err();
    assert!(error.contains("newer BuildKit"), "{error}");
    assert_eq!(failures.get().len(), 1);
    assert!(dest.join("sub/dest").exists());

    within(push(&served.channel, 0, true, &source))
        .await
        .unwrap();
    assert_eq!(names(&dest.join("sub")), ["source"]);
    served.end().await;
}

#[tokio::test]
async fn directory_that_cannot_be_written_is_a_failure() {
    let dir = tempfile::tempdir().unwrap();
    let blocker = dir.path().join("file");
    fs_err::write(&blocker, "").unwrap();
    let source = tree(dir.path(), "source", b"new");
    let mut exports = Exports::default();
    let directory = Target::Directory {
        dest: blocker.join("dest"),
        delete: false,
    };
    exports.add(0, directory);
    let failures = exports.failures();
    let served = serve(session(exports)).await;
    // Which of the report and the end of the stream the sender sees first is open.
    within(push(&served.channel, 0, true, &source))
        .await
        .unwrap_err();
    let kept = failures.get();
    assert_eq!(kept.len(), 1);
    assert!(kept[0].message.contains("dest"), "{}", kept[0]);
    served.end().await;
}
