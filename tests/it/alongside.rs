//! Caches that are exported while the build runs, and kept when it fails or is cancelled.

use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::sync::Weak;
use std::thread::sleep;
use std::time::{Duration, Instant};

use fs_err as fs;
use parking_lot::Mutex;
use rustix::process::{Signal, kill_process, kill_process_group};

use crate::support::bench::{Bench, Shared, TOOLS, assert_all_cached, steps};
use crate::support::caches::{export, import, reference};
use crate::support::counter::Counter;
use crate::support::rig::{Rig, unique};
use crate::support::running::{Running, folder, ran};

/// A builder that is never too busy to export alongside.
static SHARED: Shared = Mutex::new(Weak::new());

/// Checks that a builder which has never seen the build runs only the steps that say one of these words.
fn assert_runs(reference: &str, dockerfile: &str, wanted: &[&str]) {
    for tool in TOOLS {
        let fresh = Bench::new();
        let progress = fresh.build(tool, &[&import(reference)], folder(dockerfile).path());
        for word in ["other", "first", "second", "last"] {
            let wanted = wanted.contains(&word) && dockerfile.contains(word);
            assert_eq!(ran(&progress, word), wanted, "{tool}: {word}\n{progress}");
        }
    }
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn each_step_runs_once_whatever_it_is_made_of() {
    let bench = Bench::shared_as(&SHARED, Bench::remote);
    let counter = Counter::start();
    let base = &Rig::get().busybox;
    for (extra, keys) in [
        (&[][..], "mode=max"),
        (&[], "mode=max,via=client"),
        (&[], "mode=min,via=client"),
        (&["--no-cache"], "mode=max,via=client"),
        (&["--no-cache-filter=one,last"], "mode=max,via=builder"),
        (&[], "mode=max,via=client,compressor=client"),
    ] {
        let seed = unique("seed");
        let long = "sleep 1.2";
        let dockerfile = format!(
            "FROM {base} AS one\n\
             RUN {one}; echo {seed} > /one; {long}\n\
             RUN --mount=type=cache,target=/c --mount=type=tmpfs,target=/t {two}; echo two > /two; {long}\n\
             FROM {base} AS side\n\
             COPY file /file\n\
             RUN --mount=type=secret,id=word test $(cat /run/secrets/word) = hush; {three}; echo {seed} > /side; {long}\n\
             FROM {base} AS last\n\
             COPY --link --from=one /two /two\n\
             COPY --link --from=side /side /side\n\
             RUN <<EOT\n{four}\necho four > /four\n{long}\nEOT\n\
             RUN --mount=type=bind,from=one,target=/m {five}; cat /m/one > /five\n\
             RUN --mount=type=ssh,required=true test -S $SSH_AUTH_SOCK; {six}; echo six > /six\n",
            one = counter.tell("one"),
            two = counter.tell("two"),
            three = counter.tell("three"),
            four = counter.tell("four"),
            five = counter.tell("five"),
            six = counter.tell("six"),
        );
        let folder = folder(&dockerfile);
        fs::write(folder.path().join("word"), "hush").expect("a file");
        let reference = reference("once");
        let secret = format!(
            "--secret=id=word,src={}",
            folder.path().join("word").display()
        );
        // Nobody asks the agent for anything.
        let socket = folder.path().join("agent");
        let _agent = UnixListener::bind(&socket).expect("a socket");
        let ssh = format!("--ssh=default={}", socket.display());
        let export = export(&reference, keys);
        let mut args = vec![export.as_str(), &secret, &ssh];
        args.extend(extra);
        bench.build("cachex", &args, folder.path());
        let counts = counter.take();
        assert_eq!(counts.len(), 6, "{keys} {extra:?}: {counts:?}");
        assert!(
            counts.values().all(|count| *count == 1),
            "{keys} {extra:?}: {counts:?}"
        );
        if keys.contains("max") {
            let fresh = Bench::new();
            let args = [&import(&reference), secret.as_str(), &ssh];
            let progress = fresh.build("buildx", &args, folder.path());
            assert!(counter.take().is_empty(), "{keys} {extra:?}\n{progress}");
        }
    }
}

/// Linked copies are layers of their own, which BuildKit merges without a base.
#[test]
#[ignore = "needs the test rig: scripts/test"]
fn linked_copies_onto_nothing_are_exported_alongside() {
    let bench = Bench::shared_as(&SHARED, Bench::remote);
    let counter = Counter::start();
    let base = &Rig::get().busybox;
    for keys in [
        "mode=max,via=builder",
        "mode=max,via=client",
        "mode=min,via=client",
        "mode=max,via=client,compressor=client,compression=zstd",
    ] {
        let seed = unique("seed");
        let dockerfile = format!(
            "FROM {base} AS one\n\
             RUN {one}; echo {seed} > /one; sleep 1.2\n\
             FROM {base} AS two\n\
             RUN {two}; echo {seed} > /two; sleep 1.2\n\
             FROM scratch AS both\n\
             COPY --link --from=one /one /one\n\
             COPY --link --from=two /two /two\n\
             FROM {base} AS slow\n\
             COPY --from=both / /both\n\
             RUN {three}; cat /both/one /both/two > /three; sleep 1.2\n\
             FROM both\n\
             COPY --link --from=slow /three /three\n\
             COPY --link file /file\n",
            one = counter.tell("one"),
            two = counter.tell("two"),
            three = counter.tell("three"),
        );
        let folder = folder(&dockerfile);
        let reference = reference("linked");
        bench.build("cachex", &[&export(&reference, keys)], folder.path());
        let counts = counter.take();
        let once = counts.values().all(|count| *count == 1);
        assert!(counts.len() == 3 && once, "{keys}: {counts:?}");

        for tool in TOOLS {
            let fresh = Bench::new();
            let dest = folder.path().join("result");
            let output = format!("--output=type=local,dest={}", dest.display());
            let progress = fresh.build(tool, &[&import(&reference)], folder.path());
            if keys.contains("max") {
                // What is copied onto nothing is no step that the progress shows.
                assert_all_cached(&progress, 7);
            }
            let args = [&import(&reference), output.as_str()];
            fresh.build(tool, &args, folder.path());
            assert!(counter.take().is_empty(), "{tool} {keys}\n{progress}");
            let three = fs::read_to_string(dest.join("three")).expect("the result");
            assert_eq!(three, format!("{seed}\n{seed}\n"), "{tool} {keys}");
            fs::remove_dir_all(&dest).expect("removed");
        }
    }
}

/// Three steps that work and one that fails; `ok` makes it work. Each says a word.
fn failing(seed: &str, ok: bool) -> String {
    let base = &Rig::get().busybox;
    let last = if ok { "true" } else { "false" };
    format!(
        "FROM {base} AS side\n\
         RUN echo other; echo {seed} > /other\n\
         FROM {base}\n\
         RUN echo first; echo {seed} > /first && head -c 500000 /dev/urandom > /data\n\
         COPY --from=side /other /other\n\
         RUN echo last; echo {seed} && {last}\n"
    )
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn a_failed_build_keeps_what_has_finished() {
    let bench = Bench::shared_as(&SHARED, Bench::remote);
    for keys in [
        "mode=max,via=builder",
        "mode=max,via=client",
        "mode=max,via=client,compressor=client,compression=zstd",
        "mode=max,alongside=false",
        "mode=min",
    ] {
        let (seed, reference) = (unique("fails"), reference("failed"));
        let export = export(&reference, keys);
        let progress = bench.fails(1, &[&export], folder(&failing(&seed, false)).path());
        let said = [
            "did not complete successfully: exit code: 1",
            "kept what has finished",
        ];
        assert!(
            said.iter().all(|text| progress.contains(text)),
            "{keys}\n{progress}"
        );
        // With `mode=min` the other stage has no layers, and is needed by none that runs.
        assert_runs(&reference, &failing(&seed, true), &["last"]);
    }
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn a_failed_build_does_not_make_a_cache_poorer() {
    let bench = Bench::shared_as(&SHARED, Bench::remote);
    for keys in ["mode=max,via=builder", "mode=max,via=client"] {
        let reference = reference("poorer");
        let export = export(&reference, keys);
        let (before, after) = (unique("before"), unique("after"));
        bench.build("cachex", &[&export], folder(&failing(&before, true)).path());
        bench.fails(1, &[&export], folder(&failing(&after, false)).path());
        assert_runs(&reference, &failing(&before, true), &[]);
        assert_runs(&reference, &failing(&after, true), &["last"]);
    }
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn nothing_is_kept_where_the_user_says_so() {
    let bench = Bench::shared_as(&SHARED, Bench::remote);
    let (name, seed) = (unique("skipped"), unique("skip"));
    let reference = format!("{}/{name}:cache", Rig::get().registry.host());
    let export = export(&reference, "mode=max,on-failure=skip,via=client");
    let progress = bench.fails(1, &[&export], folder(&failing(&seed, false)).path());
    assert!(!progress.contains("kept"), "{progress}");
    assert!(Rig::get().registry.manifest(&name, "cache").is_none());
}

/// Two steps that finish and one that is in the middle of its work, unless it is `mended`.
fn waiting(seed: &str, mended: bool) -> String {
    let base = &Rig::get().busybox;
    let work = if mended { "true" } else { "sleep 40" };
    format!(
        "FROM {base}\n\
         RUN echo first; echo {seed} > /first && head -c 500000 /dev/urandom > /data && sleep 1.1\n\
         RUN echo second; echo {seed} > /second\n\
         RUN echo last; echo {seed} > /last; {work}\n"
    )
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn a_cancelled_build_keeps_what_has_finished() {
    let bench = Bench::new();
    let kinds: [(&str, fn(&Running)); 3] = [
        ("Ctrl-C", |r| {
            kill_process_group(r.pid(), Signal::INT).expect("the group");
        }),
        ("TERM to docker", |r| {
            kill_process(r.pid(), Signal::TERM).expect("docker");
        }),
        ("docker is killed", |r| {
            kill_process(r.pid(), Signal::KILL).expect("docker");
        }),
    ];
    for ((what, cancel), via) in kinds.into_iter().zip(["builder", "client", "builder"]) {
        let (seed, reference) = (unique("cancelled"), reference("cancelled"));
        let export = export(&reference, &format!("mode=max,via={via}"));
        let mut running = Running::start(&bench, &[&export], &waiting(&seed, false), " last\n");
        let start = Instant::now();
        cancel(&running);
        let status = running.ends();
        assert!(start.elapsed() < Duration::from_secs(12), "{what}");
        if what != "docker is killed" {
            assert_eq!(status.code(), Some(130), "{what}\n{}", running.progress());
        }
        let left = bench.inside(&["ps", "-eo", "args"]);
        assert!(!left.contains("sleep 40"), "{what}: {left}");
        assert!(
            running.progress().contains("kept what has finished"),
            "{what}\n{}",
            running.progress()
        );
        assert_runs(&reference, &waiting(&seed, true), &["last"]);
    }
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn a_second_signal_ends_at_once() {
    let bench = Bench::shared_as(&SHARED, Bench::remote);
    let seed = unique("twice");
    // A registry that takes connections and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let reference = format!("{}/x:cache", silent.local_addr().expect("an address"));
    let export = export(&reference, "mode=max,via=client");
    let mut running = Running::start(&bench, &[&export], &waiting(&seed, false), " last\n");
    kill_process_group(running.pid(), Signal::INT).expect("the group");
    sleep(Duration::from_millis(1500));
    assert!(
        running.child.try_wait().expect("a child").is_none(),
        "{}",
        running.progress()
    );
    let start = Instant::now();
    kill_process_group(running.pid(), Signal::INT).expect("the group");
    running.ends();
    assert!(
        start.elapsed() < Duration::from_secs(3),
        "{}",
        running.progress()
    );
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn a_builder_that_dies_breaks_no_cache() {
    let bench = Bench::remote();
    let (seed, reference) = (unique("killed"), reference("killed"));
    let export = export(&reference, "mode=max,via=client");
    let mut running = Running::start(&bench, &[&export], &waiting(&seed, false), " last\n");
    running.shows(|progress| {
        let sent = |line: &&str| line.contains(" layer sha256:") && line.ends_with(" done");
        // The base and the first step.
        progress.lines().filter(sent).count() >= 2
    });
    bench.client.docker_ok(&["kill", &bench.container()]);
    let status = running.ends();
    assert_eq!(status.code(), Some(1), "{}", running.progress());
    assert!(
        running.progress().contains("kept what has finished"),
        "{}",
        running.progress()
    );
    let fresh = Bench::new();
    let mended = folder(&waiting(&seed, true));
    let progress = fresh.build("buildx", &[&import(&reference)], mended.path());
    assert!(
        !ran(&progress, "first") && ran(&progress, "last"),
        "{progress}"
    );
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn several_caches_and_platforms_are_exported_at_once() {
    let bench = Bench::shared_as(&SHARED, Bench::remote);
    let seed = unique("several");
    let base = &Rig::get().busybox;
    let dockerfile = format!(
        "FROM --platform=$BUILDPLATFORM {base} AS made\n\
         ARG TARGETARCH\n\
         RUN echo {seed} $TARGETARCH > /made && sleep 1.1\n\
         FROM scratch\n\
         COPY --from=made /made /made\n"
    );
    let (one, two) = (reference("several"), reference("several"));
    let args = [
        export(&one, "mode=max"),
        export(&two, "mode=min,via=client,compression=zstd"),
        "--platform=linux/amd64,linux/arm64".to_owned(),
    ];
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    bench.build("cachex", &args, folder(&dockerfile).path());
    for reference in [one, two] {
        let fresh = Bench::new();
        let import = import(&reference);
        let args = [import.as_str(), "--platform=linux/amd64,linux/arm64"];
        let progress = fresh.build("buildx", &args, folder(&dockerfile).path());
        let steps = steps(&progress);
        let mut own = steps
            .iter()
            .filter(|(step, _)| step.contains("] RUN ") || step.contains("] COPY "));
        assert!(own.all(|(_, hit)| *hit), "{progress}");
    }
}

#[test]
#[ignore = "needs the test rig: scripts/test"]
fn chains_are_exported_at_the_end_unless_their_layers_are_small() {
    let bench = Bench::shared_as(&SHARED, Bench::remote);
    let base = &Rig::get().busybox;
    for (size, all) in [("0", false), ("1000000", true)] {
        let seed = unique("seed");
        let chain = |at: usize| {
            let step =
                |n| format!("RUN echo {seed} {at} {n} >/{n}; head -c {size} /dev/urandom >>/{n}\n");
            format!(
                "FROM {base} AS chain{at}\n{}",
                (0..4).map(step).collect::<String>()
            )
        };
        let chains: String = (0..8).map(chain).collect();
        let mount = |at| format!("--mount=from=chain{at},target=/mnt/{at}");
        let mounts = (0..8).map(mount).collect::<Vec<_>>().join(" ");
        let dockerfile = format!("{chains}FROM {base}\nRUN {mounts} echo {seed}\n");
        let folder = folder(&dockerfile);
        // The steps are done, and none has been exported.
        bench.build("cachex", &[], folder.path());
        let export = export(&reference("chains"), "mode=max");
        let progress = bench.build("cachex", &["--debug", &export], folder.path());
        // One line for each chain that is exported beside the build's own export.
        let chains = progress.matches("phase=Built").count();
        if all {
            assert_eq!(chains, 8, "{progress}");
        } else {
            // Two begin before it is known that they are small, and others until both are done.
            assert!((2..=4).contains(&chains), "{chains}\n{progress}");
        }
    }
}
