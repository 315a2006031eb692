//! A builder's BuildKit behind a port, by a relay that can end the connection, or nothing but the session on it.
//!
//! It knows HTTP/2 frames (RFC 9113, section 4): where one begins, and which stream it is of.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::thread;

use parking_lot::{Mutex, MutexGuard};

/// What a client's connection begins with (RFC 9113, section 3.4).
const PREFACE: usize = 24;
const HEAD: usize = 9;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const WINDOW_UPDATE: u8 = 8;
const CANCEL: u32 = 8;
/// `/moby.buildkit.v1.Control/Session` as HPACK writes it (RFC 7541, appendix B).
const SESSION: [u8; 24] = [
    0x62, 0x93, 0xc7, 0xe9, 0x78, 0xed, 0x35, 0x12, 0x75, 0x32, 0x57, 0xee, 0x15, 0xef, 0x1e, 0xa4,
    0xd8, 0x7a, 0x18, 0xdc, 0x54, 0x20, 0xc7, 0xab,
];

/// The relay. Its threads end with their connections, the last one with the test process.
pub(crate) struct Relay {
    port: u16,
    links: Arc<Mutex<Vec<Arc<Link>>>>,
}

/// One connection. Whole frames are written under a lock.
struct Link {
    client: Mutex<TcpStream>,
    daemon: Mutex<ChildStdin>,
    child: Mutex<Child>,
    session: Mutex<Session>,
}

#[derive(Default, Clone, Copy)]
struct Session {
    stream: Option<u32>,
    is_cut: bool,
}

fn lock<T>(value: &Mutex<T>) -> MutexGuard<'_, T> {
    value.lock()
}

impl Relay {
    /// Starts it in front of the builder in this container.
    pub(crate) fn start(container: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let links = Arc::<Mutex<Vec<Arc<Link>>>>::default();
        let (container, all) = (container.to_owned(), Arc::clone(&links));
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let link = Link::open(client, &container);
                lock(&all).push(link);
            }
        });
        Self { port, links }
    }

    /// The endpoint for `create --driver remote`.
    pub(crate) fn address(&self) -> String {
        format!("tcp://127.0.0.1:{}", self.port)
    }

    /// Ends every connection.
    pub(crate) fn break_connections(&self) {
        for link in lock(&self.links).iter() {
            let _gone = lock(&link.client).shutdown(Shutdown::Both);
            let _gone = lock(&link.child).kill();
        }
    }

    /// Resets the streams of sessions towards both sides; all else on their connections goes on. Tells
    /// how many there were.
    pub(crate) fn break_sessions(&self) -> usize {
        let links = lock(&self.links);
        links.iter().filter(|link| link.cut().is_some()).count()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.break_connections();
        for link in lock(&self.links).drain(..) {
            let _status = lock(&link.child).wait();
        }
    }
}

impl Link {
    fn open(client: TcpStream, container: &str) -> Arc<Self> {
        let mut child = Command::new("docker")
            .args(["exec", "-i", container, "buildctl", "dial-stdio"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the docker CLI");
        let daemon = child.stdin.take().expect("a pipe");
        let mut answers = child.stdout.take().expect("a pipe");
        let mut requests = client.try_clone().expect("a socket");
        let link = Arc::new(Self {
            client: Mutex::new(client),
            daemon: Mutex::new(daemon),
            child: Mutex::new(child),
            session: Mutex::default(),
        });
        let (up, down) = (Arc::clone(&link), Arc::clone(&link));
        thread::spawn(move || {
            let mut preface = [0; PREFACE];
            let begun = requests.read_exact(&mut preface);
            let begun = begun.and_then(|()| send(&mut *lock(&up.daemon), &preface));
            if begun.is_err() {
                return;
            }
            while let Ok(frame) = read(&mut requests) {
                up.note(&frame);
                if up.passes(&frame) && send(&mut *lock(&up.daemon), &frame).is_err() {
                    break;
                }
            }
            // The daemon hears that nobody is there any more.
            let _gone = lock(&up.child).kill();
        });
        thread::spawn(move || {
            while let Ok(frame) = read(&mut answers) {
                if down.passes(&frame) && send(&mut *lock(&down.client), &frame).is_err() {
                    break;
                }
            }
            let _gone = lock(&down.client).shutdown(Shutdown::Both);
        });
        link
    }

    /// Keeps the number of the session's stream.
    fn note(&self, frame: &[u8]) {
        let is_session = || frame.windows(SESSION.len()).any(|part| part == SESSION);
        if frame[3] == HEADERS && is_session() {
            lock(&self.session).stream = Some(stream(frame));
        }
    }

    /// Nothing follows on a stream that was reset, but for headers: they change what both sides know of
    /// headers.
    fn passes(&self, frame: &[u8]) -> bool {
        let session = *lock(&self.session);
        !(session.is_cut
            && session.stream == Some(stream(frame))
            && [DATA, RST_STREAM, WINDOW_UPDATE].contains(&frame[3]))
    }

    fn cut(&self) -> Option<()> {
        let number = {
            let mut session = lock(&self.session);
            let number = session.stream?;
            session.is_cut = true;
            number
        };
        let mut reset = vec![0, 0, 4, RST_STREAM, 0];
        reset.extend(number.to_be_bytes());
        reset.extend(CANCEL.to_be_bytes());
        // A connection of an earlier command has ended.
        send(&mut *lock(&self.daemon), &reset).ok()?;
        send(&mut *lock(&self.client), &reset).ok()
    }
}

fn stream(frame: &[u8]) -> u32 {
    u32::from_be_bytes([frame[5], frame[6], frame[7], frame[8]]) & 0x7fff_ffff
}

fn read(from: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut frame = vec![0; HEAD];
    from.read_exact(&mut frame)?;
    let length = u32::from_be_bytes([0, frame[0], frame[1], frame[2]]) as usize;
    frame.resize(HEAD + length, 0);
    from.read_exact(&mut frame[HEAD..])?;
    Ok(frame)
}

fn send(to: &mut impl Write, frame: &[u8]) -> io::Result<()> {
    to.write_all(frame)?;
    to.flush()
}
