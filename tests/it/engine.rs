//! The Engine API against a real daemon: that of the test rig (`eval "$(scripts/rig env)"`).

use std::collections::BTreeMap;
use std::error::Error;
use std::io::Write as _;
use std::time::Instant;

use docker_cachex::for_tests::docker::{
    ConfigFile, Contexts, EndpointOptions, Engine, ExecHandle, ExecStream,
};
use docker_cachex::for_tests::env::Env;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const MIB: usize = 1024 * 1024;

/// A container that sleeps; removed at the end, also of a failing test.
struct Sleeper(String);

impl Sleeper {
    async fn start() -> Result<Self> {
        let image = std::env::var("CACHEX_RIG_BUSYBOX")?;
        let command = ["run", "-d", "--init", "--rm", &image, "sleep", "1000"];
        let output = Command::new("docker").args(command).output().await?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into());
        }
        Ok(Self(String::from_utf8(output.stdout)?.trim().to_owned()))
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let removed = std::process::Command::new("docker")
            .args(["rm", "-f", &self.0])
            .output();
        assert!(removed.is_ok_and(|output| output.status.success()));
    }
}

async fn engine() -> Result<Engine> {
    let env = Env::from_process();
    let dir = docker_cachex::for_tests::docker::config_dir(None, &env)?;
    let config = ConfigFile::load(&dir)?;
    let contexts = Contexts::new(&dir, &dir, &config, &EndpointOptions::default(), &env)?;
    Ok(Engine::connect(&contexts.current()?, &BTreeMap::new()).await?)
}

async fn exec(
    engine: &Engine,
    container: &Sleeper,
    command: &[&str],
) -> Result<(ExecStream, ExecHandle)> {
    Ok(engine.exec_stdio(&container.0, command, &[], None).await?)
}

fn rate(bytes: usize, since: Instant) -> String {
    let mega = u32::try_from(bytes / 1_000_000).map_or(f64::INFINITY, f64::from);
    format!("{:.0} MB/s", mega / since.elapsed().as_secs_f64())
}

#[tokio::test]
#[ignore = "needs the test rig: scripts/test"]
async fn daemon_is_known_and_asked() {
    let engine = engine().await.unwrap();
    let info = engine.api().info().await.unwrap();
    assert!(info.id.is_some());
    assert!(engine.inspect_container("no-such").await.unwrap().is_none());
}

#[tokio::test]
#[ignore = "needs the test rig: scripts/test"]
async fn exec_tells_output_and_exit_code() {
    let container = Sleeper::start().await.unwrap();
    let engine = engine().await.unwrap();
    let script = "cat; echo out; echo err >&2; exit 7";
    let output = engine
        .exec_output(&container.0, &["sh", "-c", script])
        .await
        .unwrap();
    assert_eq!(output.stdout, b"out\n");
    assert_eq!(output.stderr, "err");
    assert_eq!(output.exit_code, Some(7));

    let output = engine
        .exec_output(&container.0, &["no-such-program"])
        .await
        .unwrap();
    assert!(
        output.exit_code.is_some_and(|code| code >= 126),
        "{output:?}"
    );

    let missing = engine
        .exec_output("no-such-container", &["true"])
        .await
        .unwrap_err();
    assert!(missing.is_not_found(), "{missing:?}");
}

#[tokio::test]
#[ignore = "needs the test rig: scripts/test"]
async fn dropped_stream_ends_a_process_that_reads() {
    let container = Sleeper::start().await.unwrap();
    let engine = engine().await.unwrap();
    let (mut stream, handle) = exec(&engine, &container, &["cat"]).await.unwrap();
    stream.write_all(b"x").await.unwrap();
    assert_eq!(stream.read_u8().await.unwrap(), b'x');
    drop(stream);
    assert_eq!(handle.exit_code().await.unwrap(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the test rig: scripts/test"]
async fn many_bytes_go_each_way() {
    const SIZE: usize = 256 * MIB;
    let container = Sleeper::start().await.unwrap();
    let engine = engine().await.unwrap();

    // Not head: busybox's writes pieces of 4 KiB, and that would be measured.
    let count = format!("dd if=/dev/zero bs=1M count={}", SIZE / MIB);
    let (mut stream, _) = exec(&engine, &container, &["sh", "-c", &count])
        .await
        .unwrap();
    let (mut got, since, mut buffer) = (0, Instant::now(), vec![0; MIB]);
    loop {
        match stream.read(&mut buffer).await.unwrap() {
            0 => break,
            n => got += n,
        }
    }
    let from = rate(got, since);
    assert_eq!(got, SIZE);

    let (mut stream, _) = exec(&engine, &container, &["wc", "-c"]).await.unwrap();
    let since = Instant::now();
    for _ in 0..SIZE / MIB {
        stream.write_all(&buffer).await.unwrap();
    }
    stream.shutdown().await.unwrap();
    let mut counted = String::new();
    stream.read_to_string(&mut counted).await.unwrap();
    let to = rate(SIZE, since);
    assert_eq!(counted.trim(), SIZE.to_string());

    let (stream, handle) = exec(&engine, &container, &["cat"]).await.unwrap();
    let since = Instant::now();
    let (mut read, mut write) = tokio::io::split(stream);
    let send = async {
        for index in 0..SIZE / MIB {
            let mark = u8::try_from(index % 256).unwrap_or_default();
            write.write_all(&vec![mark; MIB]).await?;
        }
        write.shutdown().await
    };
    let receive = async {
        let mut got = 0;
        loop {
            let n = read.read(&mut buffer).await?;
            if n == 0 {
                return Ok(got);
            }
            let mark = u8::try_from((got / MIB) % 256).unwrap_or_default();
            assert_eq!(buffer[0], mark, "at byte {got}");
            got += n;
        }
    };
    let ((), got) = tokio::try_join!(send, receive).unwrap();
    assert_eq!(got, SIZE);
    assert_eq!(handle.exit_code().await.unwrap(), Some(0));
    let both = rate(SIZE, since);
    let mut log = std::io::stderr().lock();
    writeln!(log, "exec: from {from}, to {to}, both ways {both}").unwrap();
}
