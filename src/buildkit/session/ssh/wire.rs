//! The `string` of SSH's wire format (RFC 4251, section 5): a big-endian `u32` length, then that many bytes.

use bytes::{Buf as _, BufMut as _};

/// Takes a length and that many bytes off the data.
pub(super) fn take_string<'a>(data: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(data.try_get_u32().ok()?).ok()?;
    let (text, rest) = data.split_at_checked(length)?;
    *data = rest;
    Some(text)
}

/// Puts a length and the bytes behind it.
pub(super) fn put_string(out: &mut Vec<u8>, text: &[u8]) {
    out.put_u32(u32::try_from(text.len()).unwrap_or(u32::MAX));
    out.extend_from_slice(text);
}
