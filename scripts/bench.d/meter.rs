//! Runs one command and reports what it took: `meter REPORT COMMAND ARGUMENT…`.
//!
//! A program of its own because Linux counts the memory of the process that forks into the peak of the one that is
//! executed: a child of an interpreter never shows less than the interpreter. Compiled by `scripts/bench` with plain
//! `rustc`, so it uses nothing but the standard library and the C library's `wait4`.

use std::env;
use std::ffi::{c_int, c_long};
use std::fs;
use std::io;
use std::process::{Command, ExitCode};
use std::time::{Instant, SystemTime};

/// `struct timeval` of the C library.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Time {
    seconds: c_long,
    micros: c_long,
}

/// `struct rusage` of the C library.
#[repr(C)]
#[derive(Default)]
struct Usage {
    user: Time,
    system: Time,
    peak_kib: c_long,
    others: [c_long; 13],
}

unsafe extern "C" {
    fn wait4(pid: c_int, status: *mut c_int, options: c_int, usage: *mut Usage) -> c_int;
}

fn main() -> ExitCode {
    let mut args = env::args_os().skip(1);
    let (Some(report), Some(program)) = (args.next(), args.next()) else {
        eprintln!("usage: meter REPORT COMMAND ARGUMENT…");
        return ExitCode::from(2);
    };
    match run(Command::new(&program).args(args)).and_then(|line| fs::write(report, line)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("meter: {}: {error}", program.display());
            ExitCode::FAILURE
        }
    }
}

/// One line of JSON: wall and CPU time in nanoseconds, the peak in KiB, the end in nanoseconds since 1970, and the exit
/// code (or 128 and the signal).
fn run(command: &mut Command) -> io::Result<String> {
    let start = Instant::now();
    let pid = command.spawn()?.id();
    let (status, usage) = wait(pid)?;
    let wall = start.elapsed().as_nanos();
    let end = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_err(io::Error::other)?.as_nanos();
    let cpu = nanos(usage.user) + nanos(usage.system);
    let code = if status & 0x7f == 0 { (status >> 8) & 0xff } else { 128 + (status & 0x7f) };
    Ok(format!(
        "{{\"wall\":{wall},\"cpu\":{cpu},\"peak\":{},\"end\":{end},\"code\":{code}}}\n",
        usage.peak_kib
    ))
}

fn wait(pid: u32) -> io::Result<(c_int, Usage)> {
    let pid = c_int::try_from(pid).map_err(io::Error::other)?;
    let (mut status, mut usage) = (0, Usage::default());
    loop {
        // SAFETY: both pointers are valid for the call, and `Usage` has the layout and size of the C library's struct.
        if unsafe { wait4(pid, &raw mut status, 0, &raw mut usage) } == pid {
            return Ok((status, usage));
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

fn nanos(time: Time) -> i64 {
    i64::from(time.seconds) * 1_000_000_000 + i64::from(time.micros) * 1000
}
