//! The `trimaran` program.

/// Gives what is freed back to the system: the C library's allocator keeps it, for each thread by itself. See decision 30.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    trimaran_broker::cli::run(std::env::args_os())
}
