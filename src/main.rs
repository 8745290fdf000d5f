//! The `sagaline` binary; everything it does is in the library beside it.

use std::process::ExitCode;

use mimalloc::MiMalloc;

/// A quarter of the work of a process under load was glibc's `malloc` (docs/decisions/0045).
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    sagaline::run()
}
