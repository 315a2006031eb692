//! A registry on loopback that keeps all in memory and does wrong what a test tells it to.
//!
//! It speaks HTTP/1.1 over plain TCP on its own, so that it can cut a connection at any byte.
//! Rules say which requests go wrong and how; every request is noted.

mod store;

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use flate2::write::GzEncoder;
use parking_lot::{Mutex, MutexGuard};
use sha2::Digest as _;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use self::store::{Request, Response, respond};

/// What goes wrong with a request.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// Answer this after the whole request was read; nothing is done.
    Status(u16, Vec<(&'static str, String)>, &'static str),
    /// Answer this before the body of the request is read, and close.
    EarlyStatus(u16),
    /// Close before a byte of the body is read.
    ResetBeforeBody,
    /// Read this many bytes of the body, then close.
    ResetInBody(usize),
    /// Do what was asked, then close without an answer.
    ResetAfterBody,
    /// Read this many bytes of the body, then nothing any more. A shorter body is not meant.
    StallInBody(usize),
    /// Do what was asked, then never answer.
    StallBeforeAnswer,
    /// Send this many bytes of the answer's body, then close.
    CutAnswer(usize),
    /// Send this many bytes of the answer's body, then nothing any more.
    StallAnswer(usize),
    /// Send an answer whose body is only so long, with a matching length.
    ShortAnswer(usize),
    /// Send an answer whose body is changed in its first byte.
    CorruptAnswer,
    /// Leave a header of the answer out.
    DropHeader(&'static str),
    /// Set a header of the answer.
    SetHeader(&'static str, String),
    /// Do what was asked, and answer with another status.
    SetStatus(u16),
    /// Pack the body of the answer with gzip.
    Gzip,
    /// Keep the body of an upload only up to this many bytes.
    Forget(usize),
    /// Ignore a `Range` header.
    IgnoreRange,
    /// Send the body of the answer in ten pieces with a pause before each.
    Slow(Duration),
}

/// Which requests go wrong.
#[derive(Debug, Clone)]
struct Rule {
    method: &'static str,
    part: String,
    skip: usize,
    times: usize,
    fault: Fault,
}

/// Who may do what.
#[derive(Debug, Clone, Default)]
pub(crate) enum Login {
    /// Everybody.
    #[default]
    Open,
    /// User name and password with each request.
    Basic(&'static str, &'static str),
    /// Tokens from `/token` of this registry.
    Token(TokenServer),
}

/// How tokens are given out.
#[derive(Debug, Clone, Default)]
pub(crate) struct TokenServer {
    /// User name and password that a token request must have.
    pub(crate) user: Option<(&'static str, &'static str)>,
    /// OAuth2 refresh token that a token request must have.
    pub(crate) refresh: Option<&'static str>,
    /// Requests that a token is good for.
    pub(crate) uses: Option<usize>,
    /// `expires_in` of the answers.
    pub(crate) expires_in: Option<u64>,
    /// GET is answered with 405.
    pub(crate) only_post: bool,
    /// Another address for the challenge's realm.
    pub(crate) realm: Option<String>,
    /// How long a token request takes.
    pub(crate) delay: Duration,
}

/// A request that came.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) headers: Vec<(String, String)>,
    /// Bytes of the body that were read.
    pub(crate) body: usize,
}

impl Seen {
    /// Returns a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, v)| v.as_str())
    }
}

#[derive(Default)]
struct State {
    blobs: BTreeMap<(String, String), Vec<u8>>,
    manifests: BTreeMap<(String, String), (String, Vec<u8>)>,
    uploads: HashMap<String, Vec<u8>>,
    counter: usize,
    rules: Vec<Rule>,
    seen: Vec<Seen>,
    login: Login,
    tokens: HashMap<String, (Vec<String>, Option<usize>)>,
    no_mount: bool,
}

/// The registry; it ends when this is dropped.
pub(crate) struct ScriptedRegistry {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    accept: JoinHandle<()>,
}

impl Drop for ScriptedRegistry {
    fn drop(&mut self) {
        self.accept.abort();
    }
}

impl ScriptedRegistry {
    /// Starts a registry on a free port.
    pub(crate) async fn start() -> Self {
        Self::start_at("127.0.0.1:0").await
    }

    /// Starts a registry on an address, for example that of one that ended.
    pub(crate) async fn start_at(address: &str) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::<Mutex<State>>::default();
        let shared = Arc::clone(&state);
        let accept = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, address, Arc::clone(&shared)));
                while connections.try_join_next().is_some() {}
            }
        });
        Self {
            address,
            state,
            accept,
        }
    }

    /// Returns host and port.
    pub(crate) fn host(&self) -> String {
        self.address.to_string()
    }

    /// Says who may do what.
    pub(crate) fn login(&self, login: Login) {
        self.state().login = login;
    }

    /// Refuses mounts: a mount request becomes an upload.
    pub(crate) fn refuse_mounts(&self) {
        self.state().no_mount = true;
    }

    /// Makes requests of a method whose path and query contain `part` go wrong: `times` of them
    /// after the first `skip`.
    pub(crate) fn fault(
        &self,
        method: &'static str,
        part: &str,
        (skip, times): (usize, usize),
        fault: Fault,
    ) {
        let part = part.to_owned();
        self.state().rules.push(Rule {
            method,
            part,
            skip,
            times,
            fault,
        });
    }

    /// Does right again what a method's rules made go wrong.
    pub(crate) fn clear(&self, method: &str) {
        self.state().rules.retain(|rule| rule.method != method);
    }

    /// Forgets every token that was given out.
    pub(crate) fn expire_tokens(&self) {
        self.state().tokens.clear();
    }

    /// Stores a blob and returns its digest.
    pub(crate) fn put_blob(&self, repository: &str, bytes: &[u8]) -> String {
        let digest = digest_of(bytes);
        self.state()
            .blobs
            .insert((repository.to_owned(), digest.clone()), bytes.to_vec());
        digest
    }

    /// Returns a stored blob.
    pub(crate) fn blob(&self, repository: &str, digest: &str) -> Option<Vec<u8>> {
        self.state()
            .blobs
            .get(&(repository.to_owned(), digest.to_owned()))
            .cloned()
    }

    /// Returns a stored manifest.
    pub(crate) fn manifest(&self, repository: &str, reference: &str) -> Option<Vec<u8>> {
        let key = (repository.to_owned(), reference.to_owned());
        let state = self.state();
        state.manifests.get(&key).map(|(_, bytes)| bytes.clone())
    }

    /// Returns the number of upload sessions that are open.
    pub(crate) fn open_uploads(&self) -> usize {
        self.state().uploads.len()
    }

    /// Returns all requests so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.state().seen.clone()
    }

    /// Returns the number of requests of a method whose path and query contain `part`.
    pub(crate) fn count(&self, method: &str, part: &str) -> usize {
        let state = self.state();
        let matches =
            |s: &&Seen| s.method == method && format!("{}?{}", s.path, s.query).contains(part);
        state.seen.iter().filter(matches).count()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

/// Returns the sha256 digest of bytes.
pub(crate) fn digest_of(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(sha2::Sha256::digest(bytes)))
}

type Connection = BufReader<TcpStream>;

async fn serve(stream: TcpStream, address: SocketAddr, state: Arc<Mutex<State>>) {
    stream.set_nodelay(true).unwrap();
    let mut connection = BufReader::with_capacity(64 * 1024, stream);
    while let Some(open) = one(&mut connection, address, &state).await {
        if !open {
            // Sends a reset instead of an orderly end.
            drop(connection.get_ref().set_zero_linger());
            return;
        }
    }
}

/// Serves one request; `None` at the end of the connection, `false` when it must be cut.
async fn one(
    connection: &mut Connection,
    address: SocketAddr,
    state: &Mutex<State>,
) -> Option<bool> {
    let mut seen = head(connection).await?;
    let fault = choose(state, &seen);
    match &fault {
        Some(Fault::EarlyStatus(status)) => {
            note(state, seen);
            let answer = Response::error(*status, "EARLY");
            send(connection, &answer, "GET", None).await;
            // The answer must not be lost with the unread body.
            tokio::time::sleep(Duration::from_millis(200)).await;
            return None;
        }
        Some(Fault::ResetBeforeBody) => {
            note(state, seen);
            return Some(false);
        }
        Some(Fault::ResetInBody(bytes) | Fault::StallInBody(bytes)) => {
            let mut some = vec![0; *bytes];
            connection.read_exact(&mut some).await.ok()?;
            seen.body = *bytes;
            note(state, seen);
            if matches!(fault, Some(Fault::StallInBody(_))) {
                std::future::pending::<()>().await;
            }
            return Some(false);
        }
        _ => {}
    }
    let body = body(connection, &seen).await?;
    seen.body = body.len();
    let method = seen.method.clone();
    let mut request = Request { seen, body };
    note(state, request.seen.clone());
    let delay = token_delay(state, &request);
    tokio::time::sleep(delay).await;
    let mut answer = match &fault {
        Some(Fault::Status(status, headers, body)) => {
            let mut answer = Response::new(*status);
            for (name, value) in headers {
                answer = answer.header(name, value);
            }
            answer.body = body.as_bytes().to_vec();
            answer
        }
        other => {
            match other {
                Some(Fault::Forget(bytes)) => request.body.truncate(*bytes),
                Some(Fault::IgnoreRange) => request.seen.headers.retain(|(n, _)| n != "range"),
                _ => {}
            }
            respond(&mut state.lock(), &request, address)
        }
    };
    match &fault {
        Some(Fault::ResetAfterBody) => return Some(false),
        Some(Fault::StallBeforeAnswer) => std::future::pending().await,
        Some(Fault::ShortAnswer(bytes)) => answer.body.truncate(*bytes),
        Some(Fault::CorruptAnswer) => answer.body[0] ^= 1,
        Some(Fault::SetStatus(status)) => answer.status = *status,
        Some(Fault::Gzip) => {
            let mut packed = GzEncoder::new(Vec::new(), flate2::Compression::fast());
            packed.write_all(&answer.body).unwrap();
            answer.body = packed.finish().unwrap();
            answer.headers.retain(|(n, _)| n != "content-length");
            answer = answer.header("content-encoding", "gzip");
        }
        Some(Fault::DropHeader(name)) => answer.headers.retain(|(n, _)| n != name),
        Some(Fault::SetHeader(name, value)) => {
            answer.headers.retain(|(n, _)| n != name);
            answer = answer.header(name, value);
        }
        _ => {}
    }
    send(connection, &answer, &method, fault.as_ref()).await
}

fn note(state: &Mutex<State>, seen: Seen) {
    state.lock().seen.push(seen);
}

fn choose(state: &Mutex<State>, seen: &Seen) -> Option<Fault> {
    let mut state = state.lock();
    let target = format!("{}?{}", seen.path, seen.query);
    let length = seen.header("content-length");
    let length = length.and_then(|length| length.parse::<usize>().ok());
    let is_long = |fault: &Fault| match fault {
        Fault::StallInBody(bytes) => length.is_none_or(|length| length >= *bytes),
        _ => true,
    };
    let rule = state.rules.iter_mut().find(|r| {
        r.times > 0 && r.method == seen.method && target.contains(&r.part) && is_long(&r.fault)
    })?;
    if rule.skip > 0 {
        rule.skip -= 1;
        return None;
    }
    rule.times -= 1;
    Some(rule.fault.clone())
}

fn token_delay(state: &Mutex<State>, request: &Request) -> Duration {
    match &state.lock().login {
        Login::Token(server) if request.seen.path == "/token" => server.delay,
        _ => Duration::ZERO,
    }
}

async fn head(connection: &mut Connection) -> Option<Seen> {
    // A TLS handshake: this registry has none, and says so as Go's servers do. BuildKit then speaks plain HTTP.
    if connection.fill_buf().await.ok()?.first() == Some(&0x16) {
        let refusal = b"HTTP/1.0 400 Bad Request\r\n\r\n";
        connection.write_all(refusal).await.ok()?;
        return None;
    }
    let line = read_line(connection).await?;
    let mut parts = line.split_whitespace();
    let method = parts.next()?.to_owned();
    let target = parts.next()?;
    // As a proxy it gets the whole URL.
    let target = match target.strip_prefix("http://") {
        Some(rest) => &rest[rest.find('/')?..],
        None => target,
    };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let (path, query) = (path.to_owned(), query.to_owned());
    let mut headers = Vec::new();
    loop {
        let line = read_line(connection).await?;
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':')?;
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    Some(Seen {
        method,
        path,
        query,
        headers,
        body: 0,
    })
}

/// Reads a line; `None` if the peer has left.
async fn read_line(connection: &mut Connection) -> Option<String> {
    let mut line = String::new();
    let read = connection.read_line(&mut line).await.ok()?;
    (read > 0).then_some(line)
}

async fn body(connection: &mut Connection, seen: &Seen) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    if seen.header("transfer-encoding").is_some() {
        loop {
            let line = read_line(connection).await?;
            let size = usize::from_str_radix(line.trim(), 16).ok()?;
            let mut piece = vec![0; size + 2];
            connection.read_exact(&mut piece).await.ok()?;
            if size == 0 {
                return Some(body);
            }
            body.extend_from_slice(&piece[..size]);
        }
    }
    let length = seen
        .header("content-length")
        .map_or(0, |l| l.parse().unwrap());
    body.resize(length, 0);
    connection.read_exact(&mut body).await.ok()?;
    Some(body)
}

async fn send(
    connection: &mut Connection,
    answer: &Response,
    method: &str,
    fault: Option<&Fault>,
) -> Option<bool> {
    let mut head = format!("HTTP/1.1 {} Scripted\r\n", answer.status);
    if !answer.headers.iter().any(|(n, _)| n == "content-length") {
        write!(head, "content-length: {}\r\n", answer.body.len()).unwrap();
    }
    for (name, value) in &answer.headers {
        write!(head, "{name}: {value}\r\n").unwrap();
    }
    head.push_str("\r\n");
    let stream = connection.get_mut();
    stream.write_all(head.as_bytes()).await.ok()?;
    let body: &[u8] = if method == "HEAD" { &[] } else { &answer.body };
    match fault {
        Some(Fault::CutAnswer(bytes) | Fault::StallAnswer(bytes)) => {
            stream.write_all(&body[..*bytes]).await.ok()?;
            // What was written must arrive before the reset takes it away.
            tokio::time::sleep(Duration::from_millis(50)).await;
            if matches!(fault, Some(Fault::StallAnswer(_))) {
                std::future::pending::<()>().await;
            }
            return Some(false);
        }
        Some(Fault::Slow(pause)) => {
            for piece in body.chunks(body.len().div_ceil(10).max(1)) {
                tokio::time::sleep(*pause).await;
                stream.write_all(piece).await.ok()?;
            }
        }
        _ => stream.write_all(body).await.ok()?,
    }
    Some(true)
}
