//! A server that steps of a build tell that they run.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// How long a step may take to begin.
const LIMIT: Duration = Duration::from_secs(60);

/// An HTTP server that counts who asks for what: steps tell it that they run.
pub(crate) struct Counter {
    port: u16,
    counts: Arc<Mutex<BTreeMap<String, usize>>>,
    is_open: Arc<AtomicBool>,
}

impl Counter {
    pub(crate) fn start() -> Self {
        let counter = Self::closed();
        counter.open();
        counter
    }

    /// One that refuses everybody until it is opened.
    pub(crate) fn closed() -> Self {
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
                *noted.lock().entry(path).or_default() += 1;
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

    pub(crate) fn open(&self) {
        self.is_open.store(true, Ordering::SeqCst);
    }

    /// A command that tells of a step.
    pub(crate) fn tell(&self, step: &str) -> String {
        format!("wget -q -O /dev/null http://127.0.0.1:{}/{step}", self.port)
    }

    /// Waits until a step has told that it runs.
    pub(crate) fn wait_for(&self, step: &str) {
        let end = Instant::now() + LIMIT;
        while !self.counts.lock().contains_key(step) {
            assert!(Instant::now() < end, "{step} does not run");
            thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn take(&self) -> BTreeMap<String, usize> {
        std::mem::take(&mut *self.counts.lock())
    }
}
