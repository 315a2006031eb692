//! Whole transfers: this service on one side, the daemon's receiver on the other.

use std::path::Path;

use futures_util::stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;

use super::super::Session;
use super::super::testing::{Served, serve, within};
use super::*;
use crate::fsutil::receive::ReceiveStats;
use crate::fsutil::{ReceiveOptions, receive};

/// Calls the service with these headers and returns what it sends.
async fn call<S>(
    channel: &Channel,
    headers: &[(&'static str, &str)],
    packets: S,
) -> Result<Streaming<Packet>, Status>
where
    S: futures_util::Stream<Item = Packet> + Send + 'static,
{
    let mut request = Request::new(packets);
    for (key, value) in headers {
        request.metadata_mut().append(*key, value.parse().unwrap());
    }
    let mut grpc = Grpc::new(channel.clone());
    grpc.ready().await.unwrap();
    let codec = ProstCodec::<Packet, Packet>::default();
    let path = PathAndQuery::from_static(METHODS[0]);
    Ok(grpc.streaming(request, path, codec).await?.into_inner())
}

/// Receives a directory as the daemon does.
async fn pull(
    channel: &Channel,
    headers: &[(&'static str, &str)],
    dest: &Path,
) -> Result<ReceiveStats, String> {
    let (sender, receiver) = mpsc::channel(16);
    let packets = call(channel, headers, ReceiverStream::new(receiver))
        .await
        .map_err(|status| status.message().to_owned())?;
    receive(dest, ReceiveOptions::default(), packets, sender)
        .await
        .map_err(|error| crate::error::chain(&error))
}

fn write(root: &Path, path: &str, data: &[u8]) {
    let path = root.join(path);
    fs_err::create_dir_all(path.parent().unwrap()).unwrap();
    fs_err::write(path, data).unwrap();
}

async fn served(dirs: &[(&str, &Path)]) -> Served {
    let mut local = LocalDirs::default();
    for &(name, dir) in dirs {
        local.add(name, dir);
    }
    serve(Session::builder().file_sync(local).build()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn directory_arrives_and_patterns_choose() {
    let dir = tempfile::tempdir().unwrap();
    let (root, dest) = (dir.path().join("src"), dir.path().join("dest"));
    let big: Vec<u8> = (0..3_000_000_u32).map(|i| (i % 249) as u8).collect();
    write(&root, "big", &big);
    write(&root, "a/keep.txt", b"keep");
    write(&root, "a/drop.log", b"drop");
    write(&root, "ü b/file", b"odd");
    let served = served(&[("context", &root)]).await;

    let all = within(pull(&served.channel, &[("dir-name", "context")], &dest)).await;
    assert_eq!(all.unwrap().files, 4);
    assert!(fs_err::read(dest.join("big")).unwrap() == big);
    assert_eq!(fs_err::read(dest.join("ü b/file")).unwrap(), b"odd");

    let dest = dir.path().join("filtered");
    let headers = [
        ("dir-name", "context"),
        ("include-patterns", "a"),
        ("include-patterns", "%C3%BC+b"),
        ("include-patterns-encoded", "1"),
        ("exclude-patterns", "**/*.log"),
    ];
    let some = within(pull(&served.channel, &headers, &dest))
        .await
        .unwrap();
    assert_eq!(some.files, 2);
    assert!(dest.join("a/keep.txt").exists() && dest.join("ü b/file").exists());
    served.end().await;
}

#[tokio::test]
async fn directory_that_is_not_offered_is_not_found() {
    let dir = tempfile::tempdir().unwrap();
    let served = served(&[("context", dir.path())]).await;
    for headers in [&[("dir-name", "home")][..], &[]] {
        let error = call(&served.channel, headers, stream::pending()).await;
        let error = error.unwrap_err();
        assert_eq!(error.code(), Code::NotFound);
        assert!(
            error.message().starts_with("no access allowed to dir"),
            "{error}"
        );
    }
    served.end().await;
}

#[tokio::test]
async fn hundreds_of_patterns_fit_into_the_headers() {
    let dir = tempfile::tempdir().unwrap();
    let (root, dest) = (dir.path().join("src"), dir.path().join("dest"));
    write(&root, "keep", b"");
    write(&root, "folder-1999/with/a/longish/path", b"");
    let served = served(&[("context", &root)]).await;
    let patterns: Vec<String> = (0..2000)
        .map(|i| format!("folder-{i}/with/a/longish/path"))
        .collect();
    let mut headers = vec![("dir-name", "context")];
    headers.extend(
        patterns
            .iter()
            .map(|text| ("exclude-patterns", text.as_str())),
    );
    let stats = within(pull(&served.channel, &headers, &dest))
        .await
        .unwrap();
    assert_eq!(stats.files, 1, "the last pattern counts as well");
    served.end().await;
}

#[tokio::test]
async fn error_here_is_told_to_the_daemon() {
    let dir = tempfile::tempdir().unwrap();
    let gone = dir.path().join("gone");
    let served = served(&[("context", &gone)]).await;
    let dest = dir.path().join("dest");
    let error = within(pull(&served.channel, &[("dir-name", "context")], &dest)).await;
    let error = error.unwrap_err();
    assert!(error.contains("gone"), "{error}");
    served.end().await;
}

#[tokio::test]
async fn transfer_ends_with_the_session() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "file", b"");
    let served = served(&[("context", dir.path())]).await;
    let mut packets = call(
        &served.channel,
        &[("dir-name", "context")],
        stream::pending(),
    )
    .await
    .unwrap();
    assert!(within(packets.message()).await.unwrap().is_some());
    let start = std::time::Instant::now();
    served.end().await;
    assert!(start.elapsed() < std::time::Duration::from_secs(2));
    let rest = within(async {
        while packets.message().await?.is_some() {}
        Ok::<_, Status>(())
    });
    rest.await.unwrap_err();
}
