//! What differs between operating systems. Outside of tests the rest of this program calls none by its name, but for the
//! way into a container's socket (`docker::direct`), which only Linux has, and the places of two files that macOS has
//! elsewhere or not at all (certificates of registries, the table of users).
//!
//! | file | holds |
//! |---|---|
//! | [`directory`] | open directories, whose entries are changed by name |
//! | [`files`] | kinds, owners, modes and locks of files |
//! | [`names`] | names of files as bytes |
//! | [`process`] | this process: its user, its priority, another program in its place, its terminal |
//! | [`signals`] | what asks a program to end |
//! | [`sockets`] | streams between programs of one machine |
//! | [`xattr`] | extended attributes of files |
//!
//! `unix` serves Linux and macOS. A port to Windows is one more folder beside it with the same names.

#[cfg(unix)]
mod unix;

#[cfg(unix)]
pub use unix::{directory, files, names, process, signals, sockets, xattr};
