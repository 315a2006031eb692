//! Caches that are exported while the build runs, and kept when it fails or is cancelled.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use fs_err as fs;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tempfile::TempDir;

use crate::support::bench::{Bench, Shared, steps};
use crate::support::recorder::Recorder;
use crate::support::rig::{Rig, context, unique};

static SHARED: Shared = Mutex::new(Weak::new());

/// How long a step may take to show what is waited for.
const LIMIT: Duration = Duration::from_secs(60);

/// An HTTP server that counts who asks for what: steps tell it that they run.
struct Counter {
    port: u16,
    counts: Arc<Mutex<BTreeMap<String, usize>>>,
    is_open: Arc<AtomicBool>,
}

impl Counter {
    fn start() -> Self {
        let counter = Self::closed();
        counter.open();
        counter
    }

    /// One that refuses everybody until it is opened.
    fn closed() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let counts = Arc::<Mutex<BTreeMap<String, usize>>>::default();
        let noted = Arc::clone(&counts);
        let is_open = Arc::<AtomicBool>::default();
        let open = Arc::clone(&is_open);
        thread::spawn(move || {
            for mut client in listener.incoming().map_while(Result::ok) {
                let mut request = [0; 1024];
                let length = client.read(&mut request).unwrap_or(0);
                let text = String::from_utf8_lossy(&request[..length]).into_owned();
                let path = text.split(' ').nth(1).unwrap_or_default().to_owned();
                *noted.lock().expect("no panic").entry(path).or_default() += 1;
                let code = if open.load(Ordering::SeqCst) {
                    200
                } else {
                    503
                };
                let answer = format!(
                    "HTTP/1.1 {code} Code\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                );
                client.write_all(answer.as_bytes()).ok();
            }
        });
        Self {
            port,
            counts,
            is_open,
        }
    }

    fn open(&self) {
        self.is_open.store(true, Ordering::SeqCst);
    }

    /// A command that tells of a step.
    fn tell(&self, step: &str) -> String {
        format!("wget -q -O /dev/null http://127.0.0.1:{}/{step}", self.port)
    }

    fn take(&self) -> BTreeMap<String, usize> {
        std::mem::take(&mut *self.counts.lock().expect("no panic"))
    }
}

fn export(reference: &str, keys: &str) -> String {
    format!("--cache-to=type=registry,ref={reference},{keys}")
}

fn import(reference: &str) -> String {
    format!("--cache-from=type=registry,ref={reference}")
}

fn reference(what: &str) -> String {
    format!("{}/{}:cache", Rig::get().registry.host(), unique(what))
}

/// A folder with this Dockerfile.
fn folder(dockerfile: &str) -> TempDir {
    context(&[("Dockerfile", dockerfile), ("file", "content\n")])
}

/// Checks that a builder which has never seen the build runs only the steps that say one of these words.
fn assert_runs(reference: &str, dockerfile: &str, wanted: &[&str]) {
    for tool in ["buildx", "cachex"] {
        let fresh = Bench::new();
        let progress = fresh.build(tool, &[&import(reference)], folder(dockerfile).path());
        for word in ["other", "first", "second", "last"] {
            let wanted = wanted.contains(&word) && dockerfile.contains(word);
            assert_eq!(ran(&progress, word), wanted, "{tool}: {word}\n{progress}");
        }
    }
}

/// Tells whether a step has said a word (`#7 0.105 word`): one that was found says nothing.
fn ran(progress: &str, word: &str) -> bool {
    progress.lines().any(|line| {
        let mut parts = line.split(' ');
        parts.next().is_some_and(|number| number.starts_with('#'))
            && parts.next().is_some_and(|time| time.parse::<f64>().is_ok())
            && parts.eq([word])
    })
}

#[test]
fn each_step_runs_once_whatever_it_is_made_of() {
    let bench = Bench::shared(&SHARED);
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
             RUN --mount=type=bind,from=one,target=/m {five}; cat /m/one > /five\n",
            one = counter.tell("one"),
            two = counter.tell("two"),
            three = counter.tell("three"),
            four = counter.tell("four"),
            five = counter.tell("five"),
        );
        let folder = folder(&dockerfile);
        fs::write(folder.path().join("word"), "hush").expect("a file");
        let reference = reference("once");
        let secret = format!(
            "--secret=id=word,src={}",
            folder.path().join("word").display()
        );
        let export = export(&reference, keys);
        let mut args = vec![export.as_str(), secret.as_str()];
        args.extend(extra);
        bench.build("cachex", &args, folder.path());
        let counts = counter.take();
        assert_eq!(counts.len(), 5, "{keys} {extra:?}: {counts:?}");
        assert!(
            counts.values().all(|count| *count == 1),
            "{keys} {extra:?}: {counts:?}"
        );
        if keys.contains("max") {
            let fresh = Bench::new();
            let progress = fresh.build("buildx", &[&import(&reference), &secret], folder.path());
            assert!(counter.take().is_empty(), "{keys} {extra:?}\n{progress}");
        }
    }
}

/// A bench whose builder nobody can tell to be busy, whatever other tests do: one of the remote driver.
fn remote_bench() -> Bench {
    let bench = Bench::new();
    let address = format!("docker-container://{}", bench.container());
    let create = ["cachex", "create", "--use", "--driver", "remote", &address];
    bench.client.docker_ok(&create);
    bench
}

/// The bytes that went to a registry.
fn taken(registry: &Recorder) -> u64 {
    registry.take().iter().map(|request| request.body).sum()
}

/// A step that makes a layer of 3 MB, and one that does some work until it is told to go on.
fn layer_and(counter: &Counter, work: &str) -> String {
    let base = &Rig::get().busybox;
    let seed = unique("seed");
    format!(
        "FROM {base}\n\
         RUN echo {seed} && head -c 3000000 /dev/urandom > /data && sleep 1.1\n\
         RUN echo {seed} waits && {{ {work} until {}; do sleep 0.1; done; rm -f /work; }}\n",
        counter.tell("go")
    )
}

#[test]
fn layers_are_sent_while_the_build_runs() {
    let bench = remote_bench();
    for (keys, early) in [("via=client", true), ("via=client,alongside=false", false)] {
        let (counter, registry) = (
            Counter::closed(),
            Recorder::start(Rig::get().registry.host()),
        );
        let reference = format!("{}/{}:cache", registry.host(), unique("early"));
        let build = Running::start(
            &bench,
            &[&export(&reference, &format!("mode=max,{keys}"))],
            &layer_and(&counter, ""),
            " waits\n",
        );
        let mut sent = 0;
        let end = Instant::now() + if early { LIMIT } else { Duration::from_secs(3) };
        while sent < 2_000_000 && Instant::now() < end {
            sleep(Duration::from_millis(100));
            sent += taken(&registry);
        }
        assert_eq!(
            sent > 2_000_000,
            early,
            "{keys}: {sent}\n{}",
            build.progress()
        );
        assert!(!build.progress().contains("exporting cache to registry"));
        counter.open();
        build.succeeds();
        let after = taken(&registry);
        assert_eq!(after > 2_000_000, !early, "{keys}: {after}");
    }
}

#[test]
fn steps_that_need_every_core_keep_them() {
    let bench = Bench::new();
    let (counter, registry) = (
        Counter::closed(),
        Recorder::start(Rig::get().registry.host()),
    );
    let reference = format!("{}/{}:cache", registry.host(), unique("busy"));
    let cores = thread::available_parallelism().expect("cores");
    let work =
        format!("touch /work; for n in $(seq {cores}); do while [ -e /work ]; do :; done & done;");
    let build = Running::start(
        &bench,
        &[&export(&reference, "mode=max,via=client")],
        &layer_and(&counter, &work),
        " waits\n",
    );
    sleep(Duration::from_secs(4));
    let sent = taken(&registry);
    assert!(sent < 2_000_000, "{sent}\n{}", build.progress());
    counter.open();
    build.succeeds();
    let after = taken(&registry);
    assert!(after > 2_000_000, "{after}");
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
fn a_failed_build_keeps_what_has_finished() {
    let bench = Bench::shared(&SHARED);
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
fn a_failed_build_does_not_make_a_cache_poorer() {
    let bench = Bench::shared(&SHARED);
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
fn nothing_is_kept_where_the_user_says_so() {
    let bench = Bench::shared(&SHARED);
    let (name, seed) = (unique("skipped"), unique("skip"));
    let reference = format!("{}/{name}:cache", Rig::get().registry.host());
    let export = export(&reference, "mode=max,on-failure=skip,via=client");
    let progress = bench.fails(1, &[&export], folder(&failing(&seed, false)).path());
    assert!(!progress.contains("kept"), "{progress}");
    assert!(Rig::get().registry.manifest(&name, "cache").is_none());
}

/// A build in a process group of its own.
struct Running {
    child: Child,
    progress: PathBuf,
    _folder: TempDir,
}

impl Running {
    /// Starts it and waits for a text in the progress.
    fn start(bench: &Bench, args: &[&str], dockerfile: &str, until: &str) -> Self {
        use std::os::unix::process::CommandExt as _;
        let folder = folder(dockerfile);
        let progress = folder.path().join("progress");
        let child = bench
            .command("cachex", args, folder.path())
            .stderr(File::create(&progress).expect("a file"))
            .process_group(0)
            .spawn()
            .expect("the docker CLI");
        let running = Self {
            child,
            progress,
            _folder: folder,
        };
        let end = Instant::now() + LIMIT;
        while !running.progress().contains(until) {
            assert!(Instant::now() < end, "not in time:\n{}", running.progress());
            sleep(Duration::from_millis(20));
        }
        running
    }

    fn progress(&self) -> String {
        fs::read_to_string(&self.progress).expect("the progress")
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Waits for the end of the whole group: docker and the plugin.
    fn ends(&mut self) -> ExitStatus {
        let end = Instant::now() + LIMIT;
        loop {
            let status = self.child.try_wait().expect("a child");
            let group = kill_process_group(self.pid(), Signal::CONT);
            if let (Some(status), Err(_)) = (status, group) {
                return status;
            }
            assert!(Instant::now() < end, "no end:\n{}", self.progress());
            sleep(Duration::from_millis(20));
        }
    }

    fn succeeds(mut self) {
        let status = self.ends();
        assert!(status.success(), "{}", self.progress());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Only of use where the test failed.
        let _gone = kill_process_group(self.pid(), Signal::KILL);
        let _status = self.child.wait();
    }
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
fn a_second_signal_ends_at_once() {
    let bench = Bench::shared(&SHARED);
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
fn a_builder_that_dies_breaks_no_cache() {
    let bench = Bench::new();
    let (seed, reference) = (unique("killed"), reference("killed"));
    let export = export(&reference, "mode=max,via=client");
    let mut running = Running::start(&bench, &[&export], &waiting(&seed, false), " last\n");
    // The first step is sent within this time, as another test shows.
    sleep(Duration::from_secs(4));
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
fn several_caches_and_platforms_are_exported_at_once() {
    let bench = Bench::shared(&SHARED);
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
