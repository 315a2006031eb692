//! The sender, a receiver that misbehaves, and files that change.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use super::*;

/// Plays the receiver towards [`send`]: says these packets at once and takes all that comes until the end.
fn send_to(
    root: &Path,
    packets: Vec<Packet>,
    stay: bool,
) -> (Result<SendStats, SendError>, Vec<Packet>) {
    let (to_sender, from_receiver) = channel();
    let (to_receiver, from_sender) = channel();
    run(async {
        let sender = async move {
            send(
                root,
                Filter::default(),
                Attributes::OfRoot,
                from_receiver,
                to_receiver,
            )
            .await
        };
        let peer = async move {
            let mut answers = Vec::new();
            let mut from_sender = from_sender;
            // Requests are good only for what was offered.
            while let Some(Ok(packet)) = from_sender.next().await {
                let last =
                    packet.stat.is_none() && packet.packet_type() == Some(PacketType::PacketStat);
                answers.push(packet);
                if last {
                    break;
                }
            }
            for packet in packets {
                to_sender.send(packet).await.unwrap();
            }
            let to_sender = stay.then_some(to_sender);
            while let Some(Ok(packet)) = from_sender.next().await {
                answers.push(packet);
            }
            drop(to_sender);
            answers
        };
        tokio::join!(sender, peer)
    })
}

#[test]
fn wrong_requests_are_refused() {
    let root = TempDir::new().unwrap();
    put(root.path(), "dir/file", "x");
    symlink("x", root.path().join("link")).unwrap();
    for (packets, wrong) in [
        (vec![Packet::request(9)], 9),
        (vec![Packet::request(0)], 0),
        (vec![Packet::request(2)], 2),
        (vec![Packet::request(1), Packet::request(1)], 1),
    ] {
        let (result, answers) = send_to(root.path(), packets, true);
        assert!(
            matches!(result, Err(SendError::UnknownFile { id }) if id == wrong),
            "{result:?}"
        );
        assert_eq!(types(&answers).last(), Some(&PacketType::PacketErr));
    }
}

#[test]
fn sender_ends_with_its_peer() {
    let root = TempDir::new().unwrap();
    put(root.path(), "file", vec![7; 3_000_000]);
    let (result, _) = send_to(root.path(), vec![], false);
    assert!(matches!(result, Err(SendError::Closed)), "{result:?}");
    let (result, _) = send_to(root.path(), vec![Packet::error("no space")], true);
    assert!(matches!(result, Err(SendError::Peer { message }) if message == "no space"));
    let (result, answers) = send_to(root.path(), vec![Packet::fin()], true);
    assert_eq!(
        result.unwrap(),
        SendStats {
            files: 0,
            bytes: 0,
            stats: 1
        }
    );
    assert_eq!(types(&answers).last(), Some(&PacketType::PacketFin));
    assert_eq!(
        answers[0].stat.as_ref().map(|stat| (stat.uid, stat.gid)),
        Some((0, 0))
    );
}

#[test]
fn peer_that_leaves_after_an_odd_name_is_explained() {
    let root = TempDir::new().unwrap();
    put(root.path(), "dir/plain", "x");
    fs_err::write(root.path().join(OsStr::from_bytes(b"dir/\xff")), "").unwrap();
    let (result, _) = send_to(root.path(), vec![], false);
    let odd = PathBuf::from(OsStr::from_bytes(b"dir/\xff"));
    assert!(matches!(result, Err(SendError::NotUtf8 { path }) if path == odd));
    let (result, _) = send_to(root.path(), vec![Packet::fin()], true);
    assert_eq!(result.unwrap().stats, 3);
}

#[test]
fn sender_that_nobody_reads_ends_when_dropped() {
    let root = TempDir::new().unwrap();
    for file in 0..2000 {
        put(root.path(), &format!("f{file}"), "x");
    }
    let (_to_sender, from_receiver) = channel();
    let (to_receiver, _unread) = mpsc::channel::<Packet>(1);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    runtime.block_on(async {
        let sending = send(
            root.path(),
            Filter::default(),
            Attributes::OfRoot,
            from_receiver,
            to_receiver,
        );
        assert!(
            tokio::time::timeout(Duration::from_millis(100), sending)
                .await
                .is_err()
        );
    });
    // Waits for the threads; hangs if one of them goes on.
    drop(runtime);
}

type Change = fn(&Path);

#[test]
fn file_that_changes_is_sent_up_to_its_offered_size() {
    let cases: [(Change, Vec<u8>); 6] = [
        (
            |path| fs_err::write(path, vec![1; 200_000]).unwrap(),
            vec![1; 150_000],
        ),
        (|path| fs_err::write(path, [1; 10]).unwrap(), vec![1; 10]),
        (|path| fs_err::write(path, []).unwrap(), vec![]),
        (|path| fs_err::remove_file(path).unwrap(), vec![]),
        (
            |path| {
                fs_err::remove_file(path).unwrap();
                symlink("/etc/passwd", path).unwrap();
            },
            vec![],
        ),
        (
            |path| {
                fs_err::remove_file(path).unwrap();
                let mode = rustix::fs::Mode::RWXU;
                rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0)
                    .unwrap();
            },
            vec![],
        ),
    ];
    for (index, (change, expected)) in cases.into_iter().enumerate() {
        let root = TempDir::new().unwrap();
        let path = put(root.path(), "file", vec![0; 150_000]);
        let (to_sender, from_receiver) = channel();
        let (to_receiver, mut from_sender) = channel();
        let content = run(async {
            let sender = async {
                send(
                    root.path(),
                    Filter::default(),
                    Attributes::OfRoot,
                    from_receiver,
                    to_receiver,
                )
                .await
                .unwrap()
            };
            let peer = async move {
                while from_sender.next().await.unwrap().unwrap().stat.is_some() {}
                change(&path);
                to_sender.send(Packet::request(0)).await.unwrap();
                let mut content = Vec::new();
                loop {
                    let packet = from_sender.next().await.unwrap().unwrap();
                    assert_eq!(packet.packet_type(), Some(PacketType::PacketData));
                    if packet.data.is_empty() {
                        break;
                    }
                    content.extend(packet.data);
                }
                to_sender.send(Packet::fin()).await.unwrap();
                content
            };
            tokio::join!(sender, peer).1
        });
        assert_eq!(content, expected, "case {index}");
    }
}

#[test]
fn root_that_cannot_be_sent_is_reported() {
    let root = TempDir::new().unwrap();
    let file = put(root.path(), "file", "x");
    for bad in [file.as_path(), &root.path().join("none")] {
        let (result, answers) = send_to(bad, vec![], true);
        assert!(
            matches!(result, Err(SendError::Tree(TreeError::Root { .. }))),
            "{result:?}"
        );
        assert_eq!(types(&answers), [PacketType::PacketErr]);
    }
    let (sent, received) = copy_filtered(
        root.path(),
        Filter {
            exclude: vec!["[".to_owned()],
            ..Filter::default()
        },
        &root.path().join("dest"),
        ReceiveOptions::default(),
    );
    assert!(matches!(
        sent,
        Err(SendError::Tree(TreeError::Filter(FilterError::Exclude(_))))
    ));
    assert!(
        matches!(received, Err(ReceiveError::Peer { message }) if message.contains("syntax error in pattern"))
    );
}
