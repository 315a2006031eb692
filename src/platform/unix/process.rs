//! This process.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command};

use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process_group};

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

/// Lets a program be started in a group of its own, which [`kill_group`] ends.
pub fn in_own_group(command: &mut Command) {
    command.process_group(0);
}

/// Ends a program that was started in a group of its own, with what it has started there.
///
/// # Errors
///
/// Fails if the system does not let this user do it.
pub fn kill_group(child: &Child) -> io::Result<()> {
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    match group.map(|group| kill_process_group(group, Signal::KILL)) {
        // It has ended by itself.
        None | Some(Ok(()) | Err(Errno::SRCH)) => Ok(()),
        Some(Err(error)) => Err(error.into()),
    }
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
