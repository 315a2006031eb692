//! Generated gRPC code that no crate has: containerd's content service, client and server.
//!
//! It is made of `content.proto` by the test `generated_code_is_current`, which fails if the
//! committed file differs; with `CACHEX_UPDATE_PROTO=1` it writes the file again.

#[expect(
    unused_qualifications,
    clippy::pedantic,
    clippy::allow_attributes_without_reason,
    reason = "generated"
)]
#[rustfmt::skip]
pub mod content;
