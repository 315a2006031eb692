//! A registry that asks for a login.

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fs_err as fs;
use tempfile::TempDir;

use super::rig::Rig;

/// The only user.
pub(crate) const USER: &str = "someone";
/// The user's password.
pub(crate) const PASSWORD: &str = "s3cr3t-pw";
/// The line of the password file for both.
const HTPASSWD: &str = "someone:$2y$05$abcdefghijklmnopqrstuuyoa0eFReNTnR3LJnKYAQKMh2KrG47De\n";

/// A registry of its own that asks for a login. It ends with this.
#[derive(Debug)]
pub(crate) struct Locked {
    /// `host:port`.
    pub(crate) host: String,
    child: Child,
    _folder: TempDir,
}

impl Locked {
    /// Starts it.
    pub(crate) fn start() -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        // The port may be taken by another between these lines; then the registry ends and the test fails.
        let port = TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .expect("a port")
            .port();
        let host = format!("127.0.0.1:{port}");
        let path = folder.path().display();
        fs::write(folder.path().join("htpasswd"), HTPASSWD).expect("a file");
        let config = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n\
             storage: {{filesystem: {{rootdirectory: {path}/data}}}}\nhttp: {{addr: \"{host}\"}}\n\
             auth: {{htpasswd: {{realm: test, path: {path}/htpasswd}}}}\n"
        );
        let file = folder.path().join("config.yml");
        fs::write(&file, config).expect("a file");
        let child = Command::new(Rig::get().tool("docker-registry"))
            .arg("serve")
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the registry");
        let locked = Self {
            host,
            child,
            _folder: folder,
        };
        let end = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(&locked.host).is_err() {
            assert!(Instant::now() < end, "the registry does not listen");
            sleep(Duration::from_millis(20));
        }
        locked
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _status = self.child.wait();
    }
}

/// The text of a docker configuration that has the login.
pub(crate) fn auths(host: &str) -> String {
    let login = STANDARD.encode(format!("{USER}:{PASSWORD}"));
    format!(r#"{{"auths":{{"{host}":{{"auth":"{login}"}}}}}}"#)
}
