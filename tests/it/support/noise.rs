//! Bytes that do not compress.

use bytes::Bytes;

/// The bytes that a seed makes.
pub(crate) fn noise(seed: u8, length: usize) -> Bytes {
    let mut state = u32::from(seed) + 1;
    let bytes = (0..length).map(|_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    });
    bytes.collect::<Vec<_>>().into()
}
