//! The gRPC client of BuildKit: control, gateway and the session that serves a build.
//!
//! | file | holds |
//! |---|---|
//! | [`client`] | one HTTP/2 connection over any byte stream, Control and gateway stubs on it |
//! | [`solve`] | one build in gateway mode: control solve, frontend solve and status stream together |
//! | [`ask`] | questions about a build that run none of its steps |
//! | [`read_file`], [`source`] | a file of what the daemon fetches; definitions of single sources |
//! | [`llb`] | the graph of a build's steps, and definitions that end at one of them |
//! | [`container`] | a process in the builder, with a cache mount |
//! | [`content_read`] | small blobs of the daemon's content store |
//! | [`subrequest`] | questions to a frontend, and a frontend that answers them where another does not |
//! | [`disk`] | what the daemon's cache takes, and freeing it |
//! | [`error`] | BuildKit's rich errors: code, message, the source lines they point to |
//! | [`session`] | the services that BuildKit calls back during a build |

pub mod ask;
pub mod client;
pub mod container;
pub mod content_read;
pub mod disk;
pub mod error;
mod frontend_caps;
pub mod llb;
pub mod proto;
pub mod read_file;
pub mod session;
pub mod solve;
pub mod source;
pub mod subrequest;

pub use client::Client;
pub use error::RpcError;

use rand::Rng as _;

/// Creates a new random identifier in the form BuildKit uses for builds, sessions and stores:
/// 25 lower-case letters and digits.
pub fn new_id() -> String {
    const ALPHABET: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    const LENGTH: usize = 25;
    let mut rng = rand::rng();
    (0..LENGTH)
        .map(|_| char::from(ALPHABET[rng.random_range(0..ALPHABET.len())]))
        .collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn ids_are_25_lower_case_characters_and_differ() {
        let id = super::new_id();
        assert_eq!(id.len(), 25);
        assert!(
            id.chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
        );
        assert_ne!(id, super::new_id());
    }
}
