//! The `trimaran` program.

fn main() -> std::process::ExitCode {
    trimaran_broker::cli::run(std::env::args_os())
}
