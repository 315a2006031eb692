//! Exit codes of the program, equal to those of `docker buildx` where that has the same case.
//!
//! They are an interface: scripts test them, so a code is never given another meaning.

/// All went well.
pub const SUCCESS: u8 = 0;
/// The command failed: a step of the build, a builder, a registry, a file.
pub const FAILED: u8 = 1;
/// The build is not cached as well as it must be: a step would run with `--require-cached` or in a forecast with
/// `--exit-code`, or fewer came out of caches than `--min-hit-rate` asks for. `docker buildx` has no such code.
pub const NOT_CACHED: u8 = 3;
/// BuildKit reported an internal error (gRPC code `Internal`), which is not the build's fault.
pub const INTERNAL: u8 = 100;
/// BuildKit ran out of a resource (gRPC code `ResourceExhausted`).
pub const RESOURCE_EXHAUSTED: u8 = 102;
/// A flag is wrong: unknown, without its value, or with one that its parser refuses. Docker's command line uses the same
/// code. An unknown command, wrong arguments and a value that is found wrong afterwards, such as a key of `--cache-to`, are
/// [`FAILED`], as there.
pub const USAGE: u8 = 125;
/// The command was cancelled by a signal or by the docker command line.
pub const CANCELLED: u8 = 130;
