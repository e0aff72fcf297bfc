//! The program under test.

use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

/// The workspace's folder.
///
/// # Panics
/// If this program does not lie in a target folder.
pub fn workspace() -> PathBuf {
    // Cargo runs tests in their package's folder.
    let package = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let package = package.or_else(|| std::env::current_dir().ok());
    package
        .as_deref()
        .and_then(Path::parent)
        .map(Path::to_path_buf)
        .expect("the tests' package has a parent folder")
}

/// The `trimaran` binary: the one that `BROKER_UNDER_TEST` names (`cargo xtask test` has built it), or else built once by each
/// test program, in the profile that the test program was built in.
///
/// # Panics
/// If it does not build.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| match std::env::var_os("BROKER_UNDER_TEST") {
        Some(named) => PathBuf::from(named),
        None => build(),
    })
}

fn build() -> PathBuf {
    // target/PROFILE/deps/this-program
    let program = std::env::current_exe().expect("a test program has a path");
    let profile_folder = program
        .parent()
        .and_then(Path::parent)
        .expect("a test program lies in target/PROFILE/deps");
    let profile = match profile_folder.file_name().and_then(OsStr::to_str) {
        Some("debug") | None => "dev",
        Some(profile) => profile,
    };
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let target = profile_folder.parent().expect("target/PROFILE has a parent");
    let built = Command::new(cargo)
        .args([
            "build",
            "--quiet",
            "--package",
            "trimaran-broker",
            "--bin",
            "trimaran",
            "--profile",
            profile,
        ])
        .arg("--target-dir")
        .arg(target)
        .current_dir(workspace())
        .status()
        .expect("cargo starts");
    assert!(built.success(), "the trimaran binary does not build");
    profile_folder.join("trimaran")
}

/// Runs `trimaran` with these arguments and this standard input, to its end.
///
/// # Panics
/// If it does not start.
pub fn run_with_input(arguments: &[&str], input: &[u8]) -> Output {
    run(binary().as_os_str(), arguments, input).expect("the trimaran binary starts")
}

/// Runs kcat with these brokers, arguments and standard input, to its end.
///
/// # Panics
/// If it is not installed, or fails.
pub fn kcat(bootstrap: &str, arguments: &[&str], input: &str) -> Output {
    let arguments: Vec<&str> = ["-b", bootstrap].iter().chain(arguments).copied().collect();
    let output = run(OsStr::new("kcat"), &arguments, input.as_bytes())
        .expect("kcat is not installed: `cargo xtask test` does that, or `apt-get install kcat`");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "kcat {arguments:?} failed:\n{error}");
    output
}

fn run(program: &OsStr, arguments: &[&str], input: &[u8]) -> std::io::Result<Output> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut stdin = child.stdin.take().expect("standard input is piped");
    let input = input.to_vec();
    // From a thread: a child that writes much before it has read all must not block us.
    let writer = std::thread::spawn(move || {
        // A child that has seen enough closes its input: no fault of ours.
        drop(stdin.write_all(&input));
    });
    let output = child.wait_with_output();
    drop(writer.join());
    output
}
