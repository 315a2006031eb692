//! The messages of `DiffCopy`, with names as bytes.
//!
//! They are the messages of `fsutil.types` on the wire. The only difference is the declared type of names:
//! BuildKit marshals them without a check for UTF-8 (its gRPC codec, `util/grpcutil/encoding/proto`), so a
//! client must be able to send and take any bytes.

pub use bollard_buildkit_proto::fsutil::types::packet::PacketType;

use crate::platform::files::Owner;

/// Permission bits of a mode.
pub const MODE_PERM: u32 = 0o777;
/// Mode bit of a directory. Modes are those of Go's `os.FileMode`, not of the system.
pub const MODE_DIR: u32 = 1 << 31;
/// Mode bit of a symbolic link.
pub const MODE_SYMLINK: u32 = 1 << 27;
/// Mode bit of a device.
pub const MODE_DEVICE: u32 = 1 << 26;
/// Mode bit of a named pipe.
pub const MODE_FIFO: u32 = 1 << 25;
/// Mode bit of a socket.
pub const MODE_SOCKET: u32 = 1 << 24;
/// Mode bit of set-user-id.
pub const MODE_SETUID: u32 = 1 << 23;
/// Mode bit of set-group-id.
pub const MODE_SETGID: u32 = 1 << 22;
/// Mode bit of a character device, beside [`MODE_DEVICE`].
pub const MODE_CHAR_DEVICE: u32 = 1 << 21;
/// Mode bit of the sticky bit.
pub const MODE_STICKY: u32 = 1 << 20;
/// The bits beside the permissions, each as the system and as Go has it.
pub(super) const SPECIAL_BITS: [(u32, u32); 3] = [
    (0o4000, MODE_SETUID),
    (0o2000, MODE_SETGID),
    (0o1000, MODE_STICKY),
];
/// Mode bit of anything that is neither of these nor a regular file.
pub const MODE_IRREGULAR: u32 = 1 << 19;
/// All bits that say what kind of file it is; none of them is set for a regular file.
pub const MODE_TYPE: u32 = MODE_DIR
    | MODE_SYMLINK
    | MODE_DEVICE
    | MODE_FIFO
    | MODE_SOCKET
    | MODE_CHAR_DEVICE
    | MODE_IRREGULAR;

/// What is known of one entry of a tree.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Stat {
    /// Path below the root, clean, separated by `/`.
    #[prost(bytes = "vec", tag = "1")]
    pub path: Vec<u8>,
    /// Kind and permissions as Go's `os.FileMode`.
    #[prost(uint32, tag = "2")]
    pub mode: u32,
    /// Owner.
    #[prost(uint32, tag = "3")]
    pub uid: u32,
    /// Group.
    #[prost(uint32, tag = "4")]
    pub gid: u32,
    /// Size in bytes; zero for a directory.
    #[prost(int64, tag = "5")]
    pub size: i64,
    /// Time of the last change of content, nanoseconds since the epoch.
    #[prost(int64, tag = "6")]
    pub mod_time: i64,
    /// Target of a symbolic link, or the path of the entry that this one is a hard link to.
    #[prost(bytes = "vec", tag = "7")]
    pub linkname: Vec<u8>,
    /// Major number of a device.
    #[prost(int64, tag = "8")]
    pub devmajor: i64,
    /// Minor number of a device.
    #[prost(int64, tag = "9")]
    pub devminor: i64,
    /// Extended attributes; a map on the wire.
    #[prost(message, repeated, tag = "10")]
    pub xattrs: Vec<Xattr>,
}

impl Stat {
    /// Returns whether the entry is a directory.
    pub fn is_dir(&self) -> bool {
        self.mode & MODE_DIR != 0
    }

    /// Returns whether the entry is a symbolic link.
    pub fn is_symlink(&self) -> bool {
        self.mode & MODE_SYMLINK != 0
    }

    /// Returns who owns the entry.
    pub(super) fn owner(&self) -> Owner {
        Owner {
            uid: self.uid,
            gid: self.gid,
        }
    }

    /// Returns the permissions as the system has them, with the bits for set-user-id, set-group-id and sticky.
    pub(super) fn permissions(&self) -> u32 {
        let kept = SPECIAL_BITS.iter().filter(|(_, go)| self.mode & go != 0);
        kept.fold(self.mode & MODE_PERM, |mode, (bit, _)| mode | bit)
    }

    /// Returns the extended attributes by name.
    pub(super) fn extended(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let xattrs = self.xattrs.iter();
        xattrs.map(|Xattr { name, value }| (name.as_slice(), value.as_slice()))
    }

    /// Returns whether all that the schema calls text is UTF-8.
    pub(super) fn is_utf8(&self) -> bool {
        [&self.path, &self.linkname]
            .into_iter()
            .chain(self.xattrs.iter().map(|xattr| &xattr.name))
            .all(|text| std::str::from_utf8(text).is_ok())
    }

    /// Returns whether contents can be asked for, which is so for regular files.
    pub fn has_data(&self) -> bool {
        self.mode & MODE_TYPE == 0
    }
}

/// One extended attribute.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Xattr {
    /// Name with its namespace.
    #[prost(bytes = "vec", tag = "1")]
    pub name: Vec<u8>,
    /// Value.
    #[prost(bytes = "vec", tag = "2")]
    pub value: Vec<u8>,
}

/// One message of the protocol.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Packet {
    /// What the packet is.
    #[prost(enumeration = "PacketType", tag = "1")]
    pub kind: i32,
    /// The entry, for a STAT; a STAT without it ends the sequence.
    #[prost(message, optional, tag = "2")]
    pub stat: Option<Stat>,
    /// Position of the file in the sequence of STATs, for REQ and DATA.
    #[prost(uint32, tag = "3")]
    pub id: u32,
    /// Contents for a DATA, where empty means the end of the file; the message for an ERR.
    #[prost(bytes = "vec", tag = "4")]
    pub data: Vec<u8>,
}

impl Packet {
    /// Creates the STAT of an entry, or the one that ends the sequence.
    pub fn stat(stat: Option<Stat>) -> Self {
        Self {
            kind: PacketType::PacketStat.into(),
            stat,
            ..Self::default()
        }
    }

    /// Creates a request for the contents of a file.
    pub fn request(id: u32) -> Self {
        Self {
            kind: PacketType::PacketReq.into(),
            id,
            ..Self::default()
        }
    }

    /// Creates a piece of a file; an empty piece ends the file.
    pub fn data(id: u32, data: Vec<u8>) -> Self {
        Self {
            kind: PacketType::PacketData.into(),
            id,
            data,
            ..Self::default()
        }
    }

    /// Creates the end of the transfer.
    pub fn fin() -> Self {
        Self {
            kind: PacketType::PacketFin.into(),
            ..Self::default()
        }
    }

    /// Creates the report of an error.
    pub fn error(message: &str) -> Self {
        Self {
            kind: PacketType::PacketErr.into(),
            data: message.as_bytes().to_vec(),
            ..Self::default()
        }
    }

    /// Returns what the packet is, or nothing for a kind that this protocol does not know.
    pub fn packet_type(&self) -> Option<PacketType> {
        PacketType::try_from(self.kind).ok()
    }

    /// Returns the text of an ERR.
    pub(super) fn message(&self) -> String {
        String::from_utf8_lossy(&self.data).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use bollard_buildkit_proto::fsutil::types as proto;
    use prost::Message as _;

    use super::*;

    fn sample() -> Packet {
        let xattrs = vec![Xattr {
            name: b"user.a".to_vec(),
            value: vec![0, 255],
        }];
        let stat = Stat {
            path: b"a/b".to_vec(),
            mode: MODE_SYMLINK | 0o777,
            uid: 1,
            gid: 2,
            size: 3,
            mod_time: -4,
            linkname: b"c".to_vec(),
            devmajor: 5,
            devminor: 6,
            xattrs,
        };
        Packet {
            id: 7,
            data: vec![8],
            ..Packet::stat(Some(stat))
        }
    }

    #[test]
    fn bytes_on_the_wire_are_those_of_the_generated_message() {
        let generated = proto::Packet::decode(sample().encode_to_vec().as_slice()).unwrap();
        assert_eq!(generated.encode_to_vec(), sample().encode_to_vec());
        let stat = generated.stat.unwrap();
        assert_eq!((generated.id, generated.data), (7, vec![8]));
        assert_eq!((stat.path.as_str(), stat.linkname.as_str()), ("a/b", "c"));
        assert_eq!(stat.xattrs["user.a"], [0, 255]);
        assert_eq!(
            (stat.uid, stat.gid, stat.size, stat.mod_time),
            (1, 2, 3, -4)
        );
        assert_eq!((stat.devmajor, stat.devminor), (5, 6));
    }

    #[test]
    fn name_that_is_not_utf8_travels() {
        let stat = Stat {
            path: b"caf\xe9".to_vec(),
            ..Stat::default()
        };
        let bytes = Packet::stat(Some(stat.clone())).encode_to_vec();
        assert!(proto::Packet::decode(bytes.as_slice()).is_err());
        assert_eq!(Packet::decode(bytes.as_slice()).unwrap().stat, Some(stat));
    }
}
