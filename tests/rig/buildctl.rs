//! Stand-in for `buildctl` in the test rig's builder image.
//!
//! The real `buildctl dial-stdio` joins stdin and stdout to buildkitd's socket. In the rig `BuildKit` lives inside
//! `dockerd`, which hands its gRPC connection out after an HTTP/1.1 upgrade (`POST /grpc`, `Upgrade: h2c`), so this
//! program does the upgrade first and then passes bytes both ways. `serve` does so for everyone who connects to the
//! socket that buildkitd would listen on. It is compiled by `scripts/rig` with plain `rustc` and therefore uses
//! nothing but the standard library.

use std::env;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

const SOCKET: &str = "/var/run/docker.sock";
const SERVED: &str = "/run/buildkit/buildkitd.sock";
const START_PAUSE: Duration = Duration::from_millis(20);
const UPGRADE: &[u8] = b"POST /grpc HTTP/1.1\r\nHost: buildkit\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n";
const PING: &[u8] = b"GET /_ping HTTP/1.1\r\nHost: buildkit\r\nConnection: close\r\n\r\n";
const PING_WAIT: Duration = Duration::from_secs(5);
const HEAD_LIMIT: usize = 16 * 1024;
const BUFFER: usize = 1024 * 1024;

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let words = command_words(&args);
    let done = match words.as_slice() {
        ["dial-stdio"] => dial_stdio(),
        ["debug", "workers"] => ping(),
        ["serve"] => serve(),
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("only `dial-stdio`, `debug workers` and `serve` are there, not {args:?}"),
        )),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("buildctl (test rig): {error}");
            ExitCode::FAILURE
        }
    }
}

/// The words of the command without flags; `--addr` is the one flag whose value may be a word of its own.
fn command_words(args: &[String]) -> Vec<&str> {
    let mut words = Vec::new();
    let mut args = args.iter().map(String::as_str);
    while let Some(arg) = args.next() {
        if arg == "--addr" {
            args.next();
        } else if !arg.starts_with('-') {
            words.push(arg);
        }
    }
    words
}

/// Succeeds when the engine answers, as `buildctl debug workers` does when buildkitd is up.
fn ping() -> io::Result<()> {
    let mut socket = UnixStream::connect(SOCKET)?;
    socket.set_read_timeout(Some(PING_WAIT))?;
    socket.write_all(PING)?;
    expect_status(&read_head(&mut socket)?.0, "200")
}

/// Listens where buildkitd would, from when the engine answers.
fn serve() -> io::Result<()> {
    while ping().is_err() {
        thread::sleep(START_PAUSE);
    }
    if let Some(folder) = Path::new(SERVED).parent() {
        fs::create_dir_all(folder)?;
    }
    match fs::remove_file(SERVED) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    for peer in UnixListener::bind(SERVED)?.incoming() {
        let peer = peer?;
        thread::spawn(move || {
            if let Err(error) = join(peer) {
                eprintln!("buildctl (test rig): a connection ended: {error}");
            }
        });
    }
    Ok(())
}

/// Joins a connection to the engine's BuildKit until either ends.
fn join(mut peer: UnixStream) -> io::Result<()> {
    let (mut socket, early) = upgraded()?;
    peer.write_all(&early)?;
    let (from, to) = (peer.try_clone()?, socket.try_clone()?);
    let sender = thread::spawn(move || send(from, to));
    let passed = pass(&mut socket, &mut peer);
    _ = peer.shutdown(Shutdown::Both);
    _ = sender.join();
    passed
}

/// Connects to the engine and asks for its BuildKit; gives what came after the answer, too.
fn upgraded() -> io::Result<(UnixStream, Vec<u8>)> {
    let mut socket = UnixStream::connect(SOCKET)?;
    socket.write_all(UPGRADE)?;
    let (head, early) = read_head(&mut socket)?;
    expect_status(&head, "101")?;
    Ok((socket, early))
}

fn dial_stdio() -> io::Result<()> {
    let (mut socket, early) = upgraded()?;
    let stdin = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let mut stdout = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    stdout.write_all(&early)?;

    let sender = socket.try_clone()?;
    thread::spawn(move || send(stdin, sender));
    // The process ends with the socket, whatever stdin does.
    pass(&mut socket, &mut stdout)
}

/// Copies to the engine until the reader ends.
fn send(mut from: impl Read, mut to: UnixStream) {
    // The end of the reader closes only this direction: answers still under way must arrive.
    let how = if pass(&mut from, &mut to).is_ok() { Shutdown::Write } else { Shutdown::Both };
    _ = to.shutdown(how);
}

/// Copies until the reader ends.
fn pass(from: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => to.write_all(&buffer[..count])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Reads an HTTP/1.1 response head; gives it and the bytes that came after it in the same read.
fn read_head(socket: &mut UnixStream) -> io::Result<(Vec<u8>, Vec<u8>)> {
    let mut head = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let count = socket.read(&mut buffer)?;
        if count == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the engine closed the connection"));
        }
        head.extend_from_slice(&buffer[..count]);
        if let Some(end) = head.windows(4).position(|four| four == b"\r\n\r\n") {
            let early = head.split_off(end + 4);
            return Ok((head, early));
        }
        if head.len() > HEAD_LIMIT {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the engine's response head does not end"));
        }
    }
}

fn expect_status(head: &[u8], wanted: &str) -> io::Result<()> {
    let text = String::from_utf8_lossy(head);
    let line = text.lines().next().unwrap_or_default();
    if line.split(' ').nth(1) == Some(wanted) {
        return Ok(());
    }
    Err(io::Error::other(format!("the engine answered {line:?} where {wanted} was due")))
}
