//! Large contexts: the client's memory stays small, and what the builder has is not sent again.

use std::fs::File;

use fs_err as fs;

use crate::support::bench::{Bench, is_cached, sent};
use crate::support::memory::build_measured;
use crate::support::rig::{Rig, context};

const FILES: usize = 20_000;
const LARGE: u64 = 2 << 30;
/// The most memory that the client may have used at any time.
const MEMORY_KB: u64 = 150 * 1024;

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn many_files_and_a_large_one() {
    let dockerfile = format!(
        "FROM {}\nCOPY . /ctx\nRUN ls /ctx | wc -l\n",
        Rig::get().busybox
    );
    let folder = context(&[("Dockerfile", &dockerfile)]);
    let root = folder.path();
    for number in 0..FILES {
        let dir = root.join(format!("dir{:03}", number / 100));
        if number % 100 == 0 {
            fs::create_dir(&dir).expect("a folder");
        }
        let text = format!("{number:0>200}");
        fs::write(dir.join(format!("file{number}")), text).expect("a file");
    }
    let large = File::create(root.join("large")).expect("a file");
    large.set_len(LARGE).expect("a size");

    let bench = Bench::new();
    let (progress, peak) = build_measured(&bench, &[], root);
    let all = sent(&progress);
    assert!(all >= LARGE, "{progress}");
    assert!(!is_cached(&progress, "COPY . /ctx"), "{progress}");
    assert!(peak > 0 && peak < MEMORY_KB, "{peak} KiB");

    let (progress, peak) = build_measured(&bench, &[], root);
    assert!(sent(&progress) < all / 100, "{progress}");
    assert!(is_cached(&progress, "COPY . /ctx"), "{progress}");
    assert!(peak > 0 && peak < MEMORY_KB, "{peak} KiB");

    // One file of many has changed.
    fs::write(root.join("dir100/file10000"), "changed").expect("a file");
    let (progress, _) = build_measured(&bench, &[], root);
    assert!(sent(&progress) < all / 100, "{progress}");
    assert!(!is_cached(&progress, "COPY . /ctx"), "{progress}");
}
