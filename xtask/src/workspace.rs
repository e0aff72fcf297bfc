//! Where things are, and how to run cargo.

use anyhow::{Context, Result, bail};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The workspace that this program was built from.
pub(crate) struct Workspace {
    /// The folder of the workspace's `Cargo.toml`.
    pub(crate) root: PathBuf,
    /// Cargo's target folder, wherever the environment has put it.
    pub(crate) target: PathBuf,
    /// What `cargo metadata --no-deps` says: the packages with their dependencies.
    pub(crate) metadata: serde_json::Value,
}

impl Workspace {
    /// Asks cargo.
    pub(crate) fn find() -> Result<Workspace> {
        // The crate's own folder is known since its build; the workspace may have been moved since, and then cargo knows.
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("Cargo.toml");
        let mut command = cargo();
        command.args(["metadata", "--no-deps", "--format-version", "1"]);
        if manifest.exists() {
            command.arg("--manifest-path").arg(manifest);
        }
        let output = command
            .stderr(Stdio::inherit())
            .output()
            .context("can't run cargo: is Rust's toolchain on the PATH?")?;
        if !output.status.success() {
            bail!("`cargo metadata` failed; its message is above");
        }
        let metadata: serde_json::Value =
            serde_json::from_slice(&output.stdout).context("`cargo metadata` printed no JSON")?;
        let path = |key: &str| {
            metadata[key]
                .as_str()
                .map(PathBuf::from)
                .with_context(|| format!("`cargo metadata` names no {key}"))
        };
        let (root, target) = (path("workspace_root")?, path("target_directory")?);
        Ok(Workspace { root, target, metadata })
    }

    /// A cargo command in the workspace's root.
    pub(crate) fn cargo(&self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
        let mut command = cargo();
        command.args(arguments).current_dir(&self.root);
        command
    }

    /// Builds the release binary, and says where it is.
    pub(crate) fn build_broker(&self) -> Result<PathBuf> {
        require_c_compiler()?;
        run(&mut self.cargo([
            "build",
            "--release",
            "--package",
            "trimaran-broker",
            "--bin",
            "trimaran",
        ]))
        .context(
            "the release build of `trimaran` failed; the compiler's message is above. A linker or C compiler that is \
             missing comes with `apt-get install build-essential` (Debian, Ubuntu), `dnf group install c-development` \
             (Fedora) or `xcode-select --install` (macOS)",
        )?;
        Ok(self.release("trimaran"))
    }

    /// Where a release build of a program is.
    pub(crate) fn release(&self, program: &str) -> PathBuf {
        self.program("release", program)
    }

    /// Where a program is that was built for tests.
    pub(crate) fn debug(&self, program: &str) -> PathBuf {
        self.program("debug", program)
    }

    fn program(&self, profile: &str, program: &str) -> PathBuf {
        self.target
            .join(profile)
            .join(format!("{program}{}", std::env::consts::EXE_SUFFIX))
    }
}

/// The cargo that runs us, so that both are of one toolchain.
fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// Runs a command whose output the user sees.
///
/// # Errors
/// It can't be started, or ends with another status than 0.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let shown = show(command);
    let status = command.status().with_context(|| format!("can't run `{shown}`"))?;
    if !status.success() {
        bail!("`{shown}` failed: {status}");
    }
    Ok(())
}

/// Runs a command and returns its standard output. `input` is its standard input.
///
/// # Errors
/// As [`run`], with what it wrote to standard error.
pub(crate) fn output_of(command: &mut Command, input: &[u8]) -> Result<String> {
    use std::io::Write;
    let shown = show(command);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("can't run `{shown}`"))?;
    let mut stdin = child.stdin.take().context("no standard input")?;
    // A program that ends without reading its input says why by its status.
    let _ = stdin.write_all(input);
    drop(stdin);
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!(
            "`{shown}` failed: {}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim_end()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A command as one would type it.
pub(crate) fn show(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words
        .map(|word| quoted(&word.to_string_lossy()))
        .collect::<Vec<_>>()
        .join(" ")
}

fn quoted(word: &str) -> String {
    if !word.is_empty()
        && word
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-_./=:,@+%".contains(c))
    {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// Whether a program is on the `PATH` (or is a path to a file).
pub(crate) fn is_installed(program: &str) -> bool {
    if program.contains('/') {
        return Path::new(program).is_file();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// Whether rustup has a toolchain of that channel or version.
pub(crate) fn has_toolchain(name: &str) -> bool {
    let output = Command::new("rustup").args(["toolchain", "list"]).output();
    output.is_ok_and(|output| {
        let text = String::from_utf8_lossy(&output.stdout);
        let found = text.lines().filter_map(|line| line.strip_prefix(name));
        // `1.88` may be installed as `1.88-x86_64-…`, `1.88.0-…` or under no longer name.
        found
            .into_iter()
            .any(|rest| rest.is_empty() || rest.starts_with(['-', '.', ' ']))
    })
}

/// Dependencies compile C (zstd), and Rust links with it.
fn require_c_compiler() -> Result<()> {
    let named = std::env::var("CC").ok().filter(|name| !name.is_empty());
    let name = named.as_deref().unwrap_or("cc");
    // CC may hold flags, too.
    if name.split_whitespace().next().is_some_and(is_installed) {
        return Ok(());
    }
    bail!(
        "a C compiler is needed to build, and `{name}` is not on the PATH. Install one: `apt-get install build-essential` \
         (Debian, Ubuntu), `dnf group install c-development` (Fedora), `xcode-select --install` (macOS)"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_shown_as_typed() {
        let mut command = Command::new("trimaran");
        command.args(["produce", "--key-separator", ":", "it's", ""]);
        assert_eq!(show(&command), r"trimaran produce --key-separator : 'it'\''s' ''");
    }

    #[test]
    fn a_failing_command_says_what_it_was_and_what_it_said() {
        let failed = output_of(Command::new("sh").args(["-c", "cat >&2; exit 3"]), b"its words")
            .unwrap_err()
            .to_string();
        assert!(failed.contains("exit 3") && failed.contains("its words"), "{failed}");
        assert_eq!(output_of(&mut Command::new("cat"), b"through").unwrap(), "through");
        let missing = output_of(&mut Command::new("no-such-program-here"), b"")
            .unwrap_err()
            .to_string();
        assert!(missing.contains("no-such-program-here"), "{missing}");
    }

    #[test]
    fn programs_are_found_on_the_path() {
        assert!(is_installed("sh") && is_installed("/bin/sh"));
        assert!(!is_installed("no-such-program-here") && !is_installed("/no/such/program"));
    }
}
