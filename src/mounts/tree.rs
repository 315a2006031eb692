//! The entries of a tar stream as they stand in an index.

use std::io;

use tar::EntryType;

use super::entries::Entry;
use super::index::{Attribute, Kind, Node};
use super::{MOVING, RESTORING};

/// Prefix of extended attributes in pax headers, as GNU tar and star write them.
pub(super) const XATTR: &[u8] = b"SCHILY.xattr.";

/// Returns what stands in an index of an entry, without its content. `None` for the mount itself, for devices, sockets and
/// pipes, and for what a broken restore has left.
///
/// # Errors
///
/// Fails if the entry is broken.
pub(super) fn node(entry: &Entry) -> io::Result<Option<Node>> {
    let header = entry.header();
    let kind = match header.entry_type() {
        EntryType::Regular | EntryType::Continuous => Kind::File,
        EntryType::Directory => Kind::Folder,
        EntryType::Symlink => Kind::Symlink,
        EntryType::Link => Kind::HardLink,
        _ => return Ok(None),
    };
    let path = relative(&entry.path());
    let first = path.split(|byte| *byte == b'/').next().unwrap_or_default();
    if path.is_empty() || first == RESTORING.as_bytes() || first == MOVING.as_bytes() {
        return Ok(None);
    }
    // An empty field is as good as none.
    let owner = |id: io::Result<u64>| u32::try_from(id.unwrap_or_default()).unwrap_or_default();
    let mode = u16::try_from(header.mode()? & 0o7777).unwrap_or_default();
    let mut node = Node {
        path: path.into(),
        kind,
        // Nobody can change that of a symbolic link.
        mode: if kind == Kind::Symlink { 0o777 } else { mode },
        uid: owner(header.uid()),
        gid: owner(header.gid()),
        seconds: i64::try_from(header.mtime().unwrap_or_default()).unwrap_or_default(),
        target: match kind {
            Kind::Symlink => entry.target().into(),
            Kind::HardLink => relative(&entry.target()).into(),
            Kind::File | Kind::Folder => Box::default(),
        },
        ..Node::default()
    };
    add_pax(entry, &mut node);
    Ok(Some(node))
}

/// Takes what only the extended header says: fractions of seconds, attributes, large numbers.
fn add_pax(entry: &Entry, node: &mut Node) {
    let mut attributes = Vec::new();
    for record in entry.records() {
        let value = &record.value;
        let text = std::str::from_utf8(value).unwrap_or_default();
        match record.key.as_slice() {
            b"mtime" => {
                if let Some((seconds, nanos)) = time(text) {
                    (node.seconds, node.nanos) = (seconds, nanos);
                }
            }
            b"uid" => node.uid = text.parse().unwrap_or(node.uid),
            b"gid" => node.gid = text.parse().unwrap_or(node.gid),
            key => {
                let name = key.strip_prefix(XATTR).unwrap_or_default();
                // Labels and access lists belong to the builder's machine.
                if name.starts_with(b"user.") || name == b"security.capability" {
                    attributes.push(Attribute {
                        name: name.into(),
                        value: value.as_slice().into(),
                    });
                }
            }
        }
    }
    attributes.sort_by(|a, b| a.name.cmp(&b.name));
    node.attributes = attributes.into();
}

/// Reads a time such as `1764374400.123456789`.
fn time(text: &str) -> Option<(i64, u32)> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = seconds.parse().ok()?;
    let digits: String = fraction
        .chars()
        .chain("000000000".chars())
        .take(9)
        .collect();
    let nanos: u32 = digits.parse().ok()?;
    if text.starts_with('-') && nanos > 0 {
        // Before 1970 the fraction counts backwards.
        return Some((seconds - 1, 1_000_000_000 - nanos));
    }
    Some((seconds, nanos))
}

/// Returns a path without `./` before and `/` behind it.
fn relative(path: &[u8]) -> Vec<u8> {
    let names = path.split(|byte| *byte == b'/');
    let names: Vec<&[u8]> = names.filter(|name| !matches!(*name, b"" | b".")).collect();
    names.join(&b'/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_fractions() {
        assert_eq!(time("12"), Some((12, 0)));
        assert_eq!(time("12.5"), Some((12, 500_000_000)));
        assert_eq!(time("-1.25"), Some((-2, 750_000_000)));
        assert_eq!(time("12.1234567891"), Some((12, 123_456_789)));
        assert_eq!(time("x"), None);
    }

    #[test]
    fn paths_are_relative() {
        assert_eq!(relative(b"./a/b/"), b"a/b");
        assert_eq!(relative(b"."), b"");
        assert_eq!(relative(b"/a//b"), b"a/b");
        assert_eq!(relative(b"../a"), b"../a");
    }
}
