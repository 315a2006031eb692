//! A socket in a container of this machine, opened past the engine.
//!
//! `docker exec` costs the start of a process in the container, and each byte then goes through that
//! process, containerd's shim and the engine. Who may enter the container's root folder by
//! `/proc/PID/root` connects to the socket itself: root, and the user of a rootless engine. Nobody gets
//! more by it than the engine gives him: it would run any program for him in that container.

use std::io;
use std::path::Path;

use rustix::fd::{AsRawFd as _, OwnedFd};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::process::Uid;
use tokio::net::UnixStream;

const FOLDER: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Returns whether it is worth a try to enter containers of the engine behind this socket: everybody but
/// root and the user who runs the engine is refused by the kernel. The socket belongs to that user.
pub fn may_enter(engine_socket: &Path) -> bool {
    user_may_enter(rustix::process::geteuid(), engine_socket)
}

fn user_may_enter(user: Uid, engine_socket: &Path) -> bool {
    let owns = |found: rustix::fs::Stat| found.st_uid == user.as_raw();
    user.is_root() || rustix::fs::stat(engine_socket).is_ok_and(owns)
}

/// Connects to the socket at `path`, seen from the root folder of the container with this ID, whose
/// first process has the number `pid`.
///
/// # Errors
///
/// Fails if the process is not here or not that container's: the engine may count processes on
/// another machine. Fails if this process may not enter the container, or nobody listens there.
pub async fn connect(id: &str, pid: u32, path: &Path) -> io::Result<UnixStream> {
    let socket = open_inside(&root_of(id, pid)?, path)?;
    // An address of a socket is a path. This one leads to what was opened, whatever lies at `path` now.
    UnixStream::connect(format!("/proc/self/fd/{}", socket.as_raw_fd())).await
}

fn root_of(id: &str, pid: u32) -> io::Result<OwnedFd> {
    // An open folder of a process stays that process's, even if the number is given to another one.
    let process = rustix::fs::open(format!("/proc/{pid}"), FOLDER, Mode::empty())?;
    let groups = OFlags::RDONLY | OFlags::CLOEXEC;
    let groups = rustix::fs::openat(&process, "cgroup", groups, Mode::empty())?;
    let groups = io::read_to_string(std::fs::File::from(groups))?;
    if id.is_empty() || !groups.contains(id) {
        return Err(io::Error::new(
            io::ErrorKind::NotFound,
            "the process of the container is not on this machine",
        ));
    }
    Ok(rustix::fs::openat(&process, "root", FOLDER, Mode::empty())?)
}

/// The container's links lead to its own files, never to those of this machine.
fn open_inside(root: &OwnedFd, path: &Path) -> io::Result<OwnedFd> {
    let inside = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    Ok(rustix::fs::openat2(
        root,
        path,
        flags,
        Mode::empty(),
        inside,
    )?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, symlink};

    use tokio::net::UnixListener;

    use super::*;

    /// Stands in the groups of every process.
    const ANY_ID: &str = "/";

    #[tokio::test]
    async fn a_socket_is_reached_by_a_process_that_sees_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let own = std::process::id();
        let (client, server) = tokio::join!(connect(ANY_ID, own, &path), listener.accept());
        client.unwrap();
        server.unwrap();
        drop(listener);
        let refused = connect(ANY_ID, own, &path).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[test]
    fn root_and_the_user_of_the_engine_may_enter() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("docker.sock");
        std::fs::write(&socket, "").unwrap();
        let link = dir.path().join("link");
        symlink(&socket, &link).unwrap();
        let missing = dir.path().join("missing");
        let owner = Uid::from_raw(std::fs::metadata(&socket).unwrap().uid());
        let other = Uid::from_raw(owner.as_raw() + 1);
        for (user, path, expected) in [
            (owner, &socket, true),
            (owner, &link, true),
            (other, &socket, false),
            (other, &missing, false),
            (Uid::ROOT, &socket, true),
            (Uid::ROOT, &missing, true),
        ] {
            assert_eq!(user_may_enter(user, path), expected, "{user:?} {path:?}");
        }
    }

    #[tokio::test]
    async fn another_process_is_not_taken_for_the_container() {
        let own = std::process::id();
        for id in [
            "",
            "96590e965983b3382411ce8a7dd2327df16f9def56a9189a87a40cb5bd799e73",
        ] {
            let error = connect(id, own, Path::new("/run")).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::NotFound, "{id}");
        }
        let no_such_process = connect(ANY_ID, u32::MAX, Path::new("/run")).await;
        assert_eq!(no_such_process.unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn links_of_a_container_end_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let root = rustix::fs::open(dir.path(), FOLDER, Mode::empty()).unwrap();
        std::fs::write(dir.path().join("inner"), "").unwrap();
        symlink("/inner", dir.path().join("good")).unwrap();
        symlink("/proc/self/root/etc/passwd", dir.path().join("absolute")).unwrap();
        symlink("../../../../../../etc/passwd", dir.path().join("relative")).unwrap();
        open_inside(&root, Path::new("/good")).unwrap();
        for name in ["/absolute", "/relative"] {
            let error = open_inside(&root, Path::new(name)).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::NotFound, "{name}");
        }
    }
}
