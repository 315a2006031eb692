//! This process.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use super::files::Owner;

/// How much a thread yields (`nice`): a step of a build that wants every core gets three quarters of them from it.
#[cfg(target_os = "linux")]
const NICENESS: i32 = 5;

/// Returns who owns what this process makes.
pub fn user() -> Owner {
    Owner {
        uid: rustix::process::getuid().as_raw(),
        gid: rustix::process::getgid().as_raw(),
    }
}

/// Puts another program in the place of this one; returns only if that fails.
pub fn become_program(command: &mut Command) -> io::Error {
    command.exec()
}

/// Lowers the priority of this thread. Only Linux gives one to a thread; elsewhere it would slow the whole program.
///
/// # Errors
///
/// Fails if the system does not let this user do it.
pub fn lower_thread_priority() -> io::Result<()> {
    #[cfg(target_os = "linux")]
    rustix::process::setpriority_process(None, NICENESS)?;
    Ok(())
}

/// Returns columns and rows of the terminal behind a file; `None` if it is not one.
pub fn terminal_size(file: impl AsFd) -> Option<(u16, u16)> {
    let size = rustix::termios::tcgetwinsize(file).ok()?;
    Some((size.ws_col, size.ws_row))
}
