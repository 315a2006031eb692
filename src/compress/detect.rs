//! What a blob is, by its bytes.

use super::Algorithm;

const GZIP: &[u8] = &[0x1f, 0x8b, 8];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
/// A skippable frame of zstd begins with 0x50 to 0x5f and these.
const ZSTD_SKIPPABLE: &[u8] = &[0x2a, 0x4d, 0x18];

/// The size of a tar header.
const BLOCK: usize = 512;
/// Where a tar header keeps the sum of its bytes.
const CHECKSUM: std::ops::Range<usize> = 148..156;

/// Detects the compression of a blob by its first bytes (512, or the whole of a shorter blob).
/// None is something else, or too short.
///
/// A plain tar is known by the checksum of its first header, or by being empty (zeros).
pub fn detect(head: &[u8]) -> Option<Algorithm> {
    if head.starts_with(GZIP) {
        return Some(Algorithm::Gzip);
    }
    let skippable = head.first().is_some_and(|byte| byte & 0xf0 == 0x50)
        && head.get(1..4) == Some(ZSTD_SKIPPABLE);
    if head.starts_with(ZSTD) || skippable {
        return Some(Algorithm::Zstd);
    }
    is_tar(head.first_chunk()?).then_some(Algorithm::Uncompressed)
}

fn is_tar(header: &[u8; BLOCK]) -> bool {
    if header.iter().all(|byte| *byte == 0) {
        return true;
    }
    let digits = String::from_utf8_lossy(&header[CHECKSUM]);
    let written = u32::from_str_radix(digits.trim_matches([' ', '\0']), 8);
    // The field counts as spaces. Old tars sum signed bytes, which differs only beyond ASCII.
    let sum = |value: fn(u8) -> i32| -> i32 {
        header
            .iter()
            .enumerate()
            .map(|(place, byte)| {
                value(if CHECKSUM.contains(&place) {
                    b' '
                } else {
                    *byte
                })
            })
            .sum()
    };
    let unsigned = sum(i32::from);
    let signed = sum(|byte| i32::from(byte.cast_signed()));
    written
        .ok()
        .and_then(|written| i32::try_from(written).ok())
        .is_some_and(|written| written == unsigned || written == signed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tar() -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(2);
        header.set_cksum();
        builder
            .append_data(&mut header, "ä", b"x\n".as_slice())
            .unwrap();
        builder.into_inner().unwrap()
    }

    #[test]
    fn heads() {
        let mut broken = tar();
        broken[0] ^= 1;
        for (name, head, found) in [
            ("nothing", vec![], None),
            ("gzip", vec![0x1f, 0x8b, 8, 0], Some(Algorithm::Gzip)),
            ("compress", vec![0x1f, 0x9d, 8, 0], None),
            (
                "zstd",
                vec![0x28, 0xb5, 0x2f, 0xfd, 4],
                Some(Algorithm::Zstd),
            ),
            (
                "skippable",
                vec![0x5f, 0x2a, 0x4d, 0x18],
                Some(Algorithm::Zstd),
            ),
            ("xz", b"\xfd7zXZ\0".to_vec(), None),
            ("json", br#"{"layers":[]}"#.to_vec(), None),
            ("tar", tar(), Some(Algorithm::Uncompressed)),
            ("empty tar", vec![0; 1024], Some(Algorithm::Uncompressed)),
            ("broken tar", broken, None),
            ("short tar", tar()[..300].to_vec(), None),
            ("text", vec![b'a'; 1024], None),
        ] {
            assert_eq!(detect(&head), found, "{name}");
        }
    }
}
