//! A proxy in front of a registry that notes every request and how many bytes its body has.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use parking_lot::Mutex;

/// A request that went through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Request {
    /// For example `PUT`.
    pub(crate) method: String,
    /// Path and query.
    pub(crate) target: String,
    /// Bytes of the body.
    pub(crate) body: u64,
}

/// What is done before a request goes on.
type Hook = Box<dyn FnMut(&Request) + Send>;

/// The proxy. Its threads end with their connections, the last one with the test process.
pub(crate) struct Recorder {
    address: SocketAddr,
    noted: Arc<Noted>,
}

#[derive(Default)]
struct Noted {
    requests: Mutex<Vec<Request>>,
    hook: Mutex<Option<Hook>>,
}

impl Recorder {
    /// Starts on a free port, in front of `host:port`, which has no TLS.
    pub(crate) fn start(upstream: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let noted = Arc::<Noted>::default();
        let (upstream, all) = (upstream.to_owned(), Arc::clone(&noted));
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let (upstream, noted) = (upstream.clone(), Arc::clone(&all));
                thread::spawn(move || relay(&client, &upstream, &noted));
            }
        });
        Self { address, noted }
    }

    /// Has something done before each request from now on goes on; others wait for it.
    pub(crate) fn before_each(&self, hook: impl FnMut(&Request) + Send + 'static) {
        *self.noted.hook.lock() = Some(Box::new(hook));
    }

    /// `host:port`.
    pub(crate) fn host(&self) -> String {
        self.address.to_string()
    }

    /// The bytes of all bodies that went through since the last [`take`](Self::take).
    pub(crate) fn bytes(&self) -> u64 {
        let requests = self.noted.requests.lock();
        requests.iter().map(|request| request.body).sum()
    }

    /// Takes what was noted since the last call. Of a request that is on its way the body is not counted.
    pub(crate) fn take(&self) -> Vec<Request> {
        std::mem::take(&mut *self.noted.requests.lock())
    }
}

/// Carries a connection's bytes both ways until either side ends. Answers are not looked at.
fn relay(client: &TcpStream, upstream: &str, noted: &Noted) -> Option<()> {
    let server = TcpStream::connect(upstream).ok()?;
    let back = (server.try_clone().ok()?, client.try_clone().ok()?);
    let answers = thread::spawn(move || {
        let (mut from, mut to) = back;
        io::copy(&mut from, &mut to).ok();
        to.shutdown(Shutdown::Both).ok();
    });
    let mut from = BufReader::new(client);
    // A client that tries TLS begins with a handshake record. It is told that there is none, as a registry would.
    if from.fill_buf().ok()?.first() == Some(&0x16) {
        let mut to = client;
        to.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
            .ok()?;
    } else {
        while forward(&mut from, &server, noted).is_some() {}
    }
    server.shutdown(Shutdown::Both).ok();
    client.shutdown(Shutdown::Both).ok();
    answers.join().ok()
}

/// Carries one request; none at the end of the connection.
fn forward(from: &mut BufReader<&TcpStream>, mut to: &TcpStream, noted: &Noted) -> Option<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        (from.read_until(b'\n', &mut head).ok()? > 0).then_some(())?;
    }
    let text = String::from_utf8_lossy(&head).into_owned();
    let mut words = text.lines().next()?.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let request = Request {
        method,
        target,
        body: 0,
    };
    let place = {
        let mut noted = noted.requests.lock();
        noted.push(request.clone());
        noted.len() - 1
    };
    if let Some(hook) = &mut *noted.hook.lock() {
        hook(&request);
    }
    to.write_all(&head).ok()?;
    let lower = text.to_ascii_lowercase();
    let header = |name: &str| {
        let found = lower.lines().find_map(|line| line.strip_prefix(name));
        found.map(|value| value.trim().to_owned())
    };
    let body = if header("transfer-encoding:").is_some() {
        chunks(from, to)?
    } else {
        let length = header("content-length:").map_or(Some(0), |value| value.parse().ok())?;
        io::copy(&mut from.take(length), &mut to).ok()?
    };
    if let Some(request) = noted.requests.lock().get_mut(place) {
        request.body = body;
    }
    Some(())
}

fn chunks(from: &mut BufReader<&TcpStream>, mut to: &TcpStream) -> Option<u64> {
    let mut total = 0;
    loop {
        let mut line = String::new();
        from.read_line(&mut line).ok()?;
        let size = u64::from_str_radix(line.trim(), 16).ok()?;
        to.write_all(line.as_bytes()).ok()?;
        io::copy(&mut from.take(size + 2), &mut to).ok()?;
        total += size;
        if size == 0 {
            return Some(total);
        }
    }
}
