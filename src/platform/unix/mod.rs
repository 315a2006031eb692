//! Linux and macOS.

pub mod directory;
pub mod files;
pub mod names;
pub mod process;
pub mod signals;
pub mod sockets;
pub mod xattr;
