//! The receiver and a sender that misbehaves.

use super::wire::Stat;
use super::*;

/// Plays the sender towards [`receive`]: says these packets, then ends or stays silent.
fn receive_from(
    dest: &Path,
    packets: Vec<Packet>,
) -> (Result<ReceiveStats, ReceiveError>, Vec<Packet>) {
    let (to_receiver, from_sender) = channel();
    let (to_sender, from_receiver) = channel();
    run(async {
        let receiver =
            async move { receive(dest, ReceiveOptions::default(), from_sender, to_sender).await };
        let feed = async move {
            for packet in packets {
                if to_receiver.send(packet).await.is_err() {
                    break;
                }
            }
        };
        let answers = from_receiver.map(Result::unwrap).collect::<Vec<Packet>>();
        let (result, (), answers) = tokio::join!(receiver, feed, answers);
        (result, answers)
    })
}

fn stat(path: &str, mode: u32, link: &str) -> Packet {
    let owner = fs_err::metadata("/proc/self").unwrap();
    Packet::stat(Some(Stat {
        path: path.as_bytes().to_vec(),
        mode,
        uid: owner.uid(),
        gid: owner.gid(),
        linkname: link.as_bytes().to_vec(),
        ..Stat::default()
    }))
}

#[test]
fn bad_lists_are_refused_and_nothing_is_written_outside() {
    let base = TempDir::new().unwrap();
    let (dest, outside) = (base.path().join("dest"), base.path().join("outside"));
    fs_err::create_dir(&outside).unwrap();
    let target = outside.to_str().unwrap();
    let (dir, link) = (wire::MODE_DIR | 0o755, wire::MODE_SYMLINK | 0o777);
    for packets in [
        vec![stat("../outside/x", 0o644, "")],
        vec![stat("/tmp/x", 0o644, "")],
        vec![stat("a", dir, ""), stat("a/../../outside/x", link, "y")],
        vec![stat("b", 0o644, ""), stat("a", 0o644, "")],
        vec![stat("l", link, target), stat("l/x", link, "y")],
        vec![stat("l", link, target), stat("l", dir, "")],
        vec![stat("h", 0o644, "../outside/secret")],
        vec![stat("l", link, target), stat("m", 0o644, "l")],
        vec![stat("k", wire::MODE_IRREGULAR | 0o644, "")],
    ] {
        let (result, answers) = receive_from(&dest, packets.clone());
        assert!(
            matches!(result, Err(ReceiveError::Order(_))),
            "{packets:?}: {result:?}"
        );
        assert_eq!(
            types(&answers).last(),
            Some(&PacketType::PacketErr),
            "{packets:?}"
        );
    }
    assert_eq!(fs_err::read_dir(&outside).unwrap().count(), 0);
}

#[test]
fn link_in_the_destination_is_not_followed() {
    let base = TempDir::new().unwrap();
    let (dest, outside) = (base.path().join("dest"), base.path().join("outside"));
    fs_err::create_dir(&outside).unwrap();
    fs_err::create_dir(&dest).unwrap();
    symlink(&outside, dest.join("d")).unwrap();
    symlink(outside.join("f"), dest.join("f")).unwrap();
    let packets = vec![
        stat("d", wire::MODE_DIR | 0o755, ""),
        stat("d/x", 0o644, ""),
        stat("f", 0o644, ""),
        Packet::stat(None),
        Packet::data(1, b"one".to_vec()),
        Packet::data(2, b"two".to_vec()),
        Packet::data(2, Vec::new()),
        Packet::data(1, Vec::new()),
        Packet::fin(),
    ];
    let (result, answers) = receive_from(&dest, packets);
    assert_eq!(
        result.unwrap(),
        ReceiveStats {
            files: 2,
            bytes: 6,
            stats: 3
        }
    );
    assert_eq!(types(&answers).last(), Some(&PacketType::PacketFin));
    assert_eq!(fs_err::read_dir(&outside).unwrap().count(), 0);
    assert_eq!(fs_err::read_to_string(dest.join("d/x")).unwrap(), "one");
    assert_eq!(fs_err::read_to_string(dest.join("f")).unwrap(), "two");
}

type Expected = fn(&ReceiveError) -> bool;

#[test]
fn broken_transfer_leaves_the_old_file_and_no_other() {
    let dest = TempDir::new().unwrap();
    put(dest.path(), "file", "old");
    let start = vec![
        stat("file", 0o644, ""),
        Packet::stat(None),
        Packet::data(0, b"half".to_vec()),
    ];
    let cases: Vec<(Vec<Packet>, Expected)> = vec![
        (vec![], |error| matches!(error, ReceiveError::Closed)),
        (
            vec![Packet::error("out of cheese")],
            |error| matches!(error, ReceiveError::Peer { message } if message == "out of cheese"),
        ),
        (vec![Packet::data(1, vec![1])], |error| {
            matches!(error, ReceiveError::UnknownFile { id: 1 })
        }),
        (vec![Packet::fin()], |error| {
            matches!(error, ReceiveError::Closed)
        }),
    ];
    for (rest, expected) in cases {
        let (result, _) = receive_from(dest.path(), [start.clone(), rest.clone()].concat());
        assert!(expected(&result.unwrap_err()), "{rest:?}");
        assert_eq!(
            fs_err::read_to_string(dest.path().join("file")).unwrap(),
            "old"
        );
        let names: Vec<_> = fs_err::read_dir(dest.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(names, ["file"]);
    }
}
