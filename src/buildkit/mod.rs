//! The gRPC client of BuildKit: control, gateway and the session that serves a build.

pub mod session;
