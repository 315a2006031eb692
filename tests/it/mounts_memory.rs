//! How much memory the client takes for a cache mount with many files, and with large ones.

use crate::support::bench::Bench;
use crate::support::caches::{export, import, reference};
use crate::support::memory::build_measured;
use crate::support::rig::{Rig, context, unique};

/// Fifty thousand files of which no two are the same, and some that are larger than anything that is held.
const MAKE: &str = "mkdir /c/many && cd /c/many && head -c 20000000 /dev/urandom | split -b 400 -a 4 - && cd .. && \
                    for n in 1 2 3 4; do head -c 60000000 /dev/urandom > $n; done && \
                    find . -type f -exec sha256sum {} + | sort | sha256sum > /sum && mv /sum /c/sum";
const LOOK: &str = "mv /c/sum /sum && cd /c && find . -type f -exec sha256sum {} + | sort | sha256sum | \
                    cmp - /sum && echo it is whole";
/// The most memory that the client may have used at any time, in KiB: of the packs it holds a few, of each file some hundred
/// bytes. Without optimization the program itself takes 40 MiB of it.
const MEMORY: u64 = 135 << 10;

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn memory_stays_bounded_however_large_a_mount_is() {
    let (reference, seed, base) = (reference("memory"), unique("memory"), &Rig::get().base);
    let step = |round: &str, run: &str| {
        let run = format!("RUN --mount=type=cache,target=/c : {seed} {round}; {run}");
        context(&[("Dockerfile", &format!("FROM {base}\n{run}\n"))])
    };
    let to = export(&reference, "mode=max,via=client,mounts=all");
    let bench = Bench::new();
    // As a new one, and with what was packed before.
    for (round, run) in [("one", MAKE), ("two", "echo more > /c/more; rm /c/more")] {
        let (progress, peak) = build_measured(&bench, &[&to], step(round, run).path());
        assert!(progress.contains("saving cache mount"), "{progress}");
        assert!(!progress.contains("is not saved"), "{progress}");
        assert!(peak > 0 && peak < MEMORY, "{round}: {peak} KiB");
        eprintln!("{round}: {peak} KiB");
    }
    let fresh = Bench::new();
    let (progress, peak) =
        build_measured(&fresh, &[&import(&reference)], step("three", LOOK).path());
    assert!(progress.contains("it is whole"), "{progress}");
    eprintln!("three: {peak} KiB");
    assert!(peak > 0 && peak < MEMORY, "{peak} KiB");
}
