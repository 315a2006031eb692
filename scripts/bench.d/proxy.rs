//! Stands before a registry and counts; can make it look far away: `proxy UPSTREAM [RTT-MS BYTES-PER-SECOND ROUND-TRIPS]`,
//! where a connection costs so many round trips before its first byte: one for TCP, one more where there is TLS.
//!
//! Prints its port on the loopback, then, for each line on standard input, the requests, bytes to the registry and bytes
//! from it since its start. Ends with its standard input. Compiled by `scripts/bench` with plain `rustc`, so it uses
//! nothing but the standard library.

use std::env;
use std::io::{self, BufRead, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

#[path = "proxy_http.rs"]
mod http;

/// One read without shaping.
const BUFFER: usize = 256 * 1024;
/// One read with shaping: small, so that connections share the line evenly.
const SEGMENT: usize = 16 * 1024;
/// Segments that are on their way at the same time, for each connection and direction: 2 MiB.
const IN_FLIGHT: usize = 128;
/// What a sleep that was too long may catch up with.
const SLACK: Duration = Duration::from_millis(5);

#[derive(Default)]
struct Counters {
    requests: AtomicU64,
    up: AtomicU64,
    down: AtomicU64,
}

/// A line to a far registry: one way's delay, how long a connection takes, and what all share in each direction.
struct Line {
    delay: Duration,
    connect: Duration,
    rate: f64,
    free: [Mutex<Instant>; 2],
}

#[derive(Clone, Copy, PartialEq)]
enum Way {
    Up,
    Down,
}

fn main() -> io::Result<()> {
    let args: Vec<String> = env::args().skip(1).collect();
    let (upstream, line) = match args.as_slice() {
        [upstream] => (upstream.clone(), None),
        [upstream, rtt, rate, trips] => {
            let line = Line::new(number(rtt)?, number(rate)?, number(trips)?);
            (upstream.clone(), Some(Arc::new(line)))
        }
        _ => return Err(io::Error::other("usage: proxy UPSTREAM [RTT-MS BYTES-PER-SECOND ROUND-TRIPS]")),
    };
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("{}", listener.local_addr()?.port());
    let counters = Arc::new(Counters::default());
    let counted = Arc::clone(&counters);
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let (upstream, line, counters) = (upstream.clone(), line.clone(), Arc::clone(&counted));
            thread::spawn(move || {
                if let Err(error) = serve(&client, &upstream, line.as_ref(), &counters) {
                    eprintln!("proxy: {error}");
                }
            });
        }
    });
    for line in io::stdin().lock().lines() {
        line?;
        let [requests, up, down] = [&counters.requests, &counters.up, &counters.down].map(|c| c.load(Relaxed));
        println!("{requests} {up} {down}");
    }
    Ok(())
}

fn number(text: &str) -> io::Result<f64> {
    text.parse().map_err(io::Error::other)
}

/// Passes both ways of a connection on until both have ended.
fn serve(client: &TcpStream, upstream: &str, line: Option<&Arc<Line>>, counters: &Arc<Counters>) -> io::Result<()> {
    let registry = TcpStream::connect(upstream)?;
    client.set_nodelay(true)?;
    registry.set_nodelay(true)?;
    let back = (registry.try_clone()?, client.try_clone()?);
    let (line_back, counters_back) = (line.cloned(), Arc::clone(counters));
    let down = thread::spawn(move || pass(back.0, back.1, Way::Down, line_back.as_ref(), &counters_back));
    pass(client.try_clone()?, registry, Way::Up, line, counters);
    down.join().map_err(|_| io::Error::other("a thread of the proxy panicked"))
}

/// One way. A side that breaks off ends the way; the other side sees the end of its stream.
fn pass(mut from: TcpStream, to: TcpStream, way: Way, line: Option<&Arc<Line>>, counters: &Counters) {
    let sender = line.map(|line| {
        let (sender, receiver) = sync_channel(IN_FLIGHT);
        let to = to.try_clone();
        (Arc::clone(line), sender, thread::spawn(move || to.and_then(|to| deliver(to, &receiver))))
    });
    let mut buffer = vec![0; if sender.is_some() { SEGMENT } else { BUFFER }];
    let mut requests = http::Requests::default();
    let mut late = line.filter(|_| way == Way::Up).map_or(Duration::ZERO, |line| line.connect);
    while let Ok(size @ 1..) = from.read(&mut buffer) {
        let bytes = &buffer[..size];
        if way == Way::Up {
            counters.requests.fetch_add(requests.take(bytes), Relaxed);
        }
        let counter = if way == Way::Up { &counters.up } else { &counters.down };
        counter.fetch_add(size as u64, Relaxed);
        let sent = match &sender {
            None => (&to).write_all(bytes).is_ok(),
            Some((line, sender, _)) => {
                let due = line.reserve(way, size) + line.delay + late;
                late = Duration::ZERO;
                sender.send((due, bytes.to_vec())).is_ok()
            }
        };
        if !sent {
            break;
        }
    }
    if let Some((_, sender, thread)) = sender {
        drop(sender);
        let _ = thread.join();
    }
    // One side may be gone already.
    let _ = to.shutdown(Shutdown::Write);
    let _ = from.shutdown(Shutdown::Read);
}

fn deliver(mut to: TcpStream, segments: &Receiver<(Instant, Vec<u8>)>) -> io::Result<()> {
    for (due, bytes) in segments {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        to.write_all(&bytes)?;
    }
    Ok(())
}

impl Line {
    fn new(rtt_ms: f64, rate: f64, round_trips: f64) -> Self {
        let free = || Mutex::new(Instant::now());
        let round_trip = Duration::from_secs_f64(rtt_ms / 1000.0);
        Self { delay: round_trip / 2, connect: round_trip.mul_f64(round_trips), rate, free: [free(), free()] }
    }

    /// Waits until the line has carried these bytes, and returns when that was.
    fn reserve(&self, way: Way, size: usize) -> Instant {
        let at = {
            let mut free = self.free[way as usize].lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            let from = (*free).max(now.checked_sub(SLACK).unwrap_or(now));
            *free = from + Duration::from_secs_f64(size as f64 / self.rate);
            *free
        };
        thread::sleep(at.saturating_duration_since(Instant::now()));
        at
    }
}
