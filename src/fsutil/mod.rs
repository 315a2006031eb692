//! `DiffCopy`, the file transfer protocol of BuildKit: walk, patterns, send, receive.
//!
//! The sender walks a directory and sends one STAT packet per entry; the receiver asks for the contents it
//! lacks by the position of an entry in that sequence; the sender answers with DATA packets. Both
//! directions run at once. Wire format: github.com/tonistiigi/fsutil, `types/wire.proto`.
//!
//! [`send()`] serves a build context, [`receive()`] takes the files of a `type=local` output.
//!
//! Names are bytes here: BuildKit and buildx put them on the wire as they are, UTF-8 or not, although the
//! schema says `string`. So [`wire`] declares the messages again; a transport must use those.

mod attributes;
mod disk;
mod filter;
mod follow;
mod glob;
mod paths;
mod pattern;
pub mod receive;
mod report;
mod send;
mod stat;
mod tree;
mod validate;
mod walk;
pub mod wire;

#[cfg(test)]
mod tests;

pub use attributes::Attributes;
pub use filter::Filter;
pub use glob::Glob;
pub use paths::join as join_paths;
pub use pattern::{Matcher, PatternError};
pub use receive::{ReceiveError, ReceiveMode, ReceiveOptions, receive};
pub use send::{SendError, SendStats, send};
pub use tree::{TreeError, list};
