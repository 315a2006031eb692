//! The `docker-cachex` executable: hands its arguments to the library and exits with its code.

use std::process::ExitCode;

#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    docker_cachex::main(std::env::args_os().collect())
}
