//! What the machine guards: format, lints, dependency edges and trees, import circles, READMEs, documentation, packages,
//! the oldest compiler.

use crate::workspace::{Workspace, has_toolchain, run as run_command};
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

mod circles;
mod trees;

/// Checks everything, and fails with all that is wrong.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Only what takes no compiler: dependency edges and trees, import circles, READMEs and licences.
    #[arg(long)]
    quick: bool,
}

/// Runs the command.
pub(crate) fn run(arguments: Arguments) -> Result<()> {
    let workspace = Workspace::find()?;
    let mut wrong = Vec::new();
    wrong.extend(edges(&workspace.metadata)?);
    wrong.extend(rooms(&workspace)?);
    wrong.extend(trees::check(&workspace)?);
    wrong.extend(circles::check(&workspace)?);
    if !arguments.quick {
        for (what, mut command) in commands(&workspace) {
            println!("== {what}");
            if let Err(error) = run_command(&mut command) {
                wrong.push(format!("{what}: {error}"));
            }
        }
        wrong.extend(oldest_compiler(&workspace)?);
    }
    if !wrong.is_empty() {
        bail!("{}", wrong.join("\n"));
    }
    println!("All checks have passed.");
    Ok(())
}

/// What cargo checks.
fn commands(workspace: &Workspace) -> [(&'static str, Command); 4] {
    let mut documentation = workspace.cargo(["doc", "--workspace", "--no-deps", "--quiet"]);
    documentation.env("RUSTDOCFLAGS", "-D warnings");
    [
        ("format", workspace.cargo(["fmt", "--all", "--check"])),
        (
            "lints",
            workspace.cargo([
                "clippy",
                "--workspace",
                "--all-targets",
                "--quiet",
                "--",
                "-D",
                "warnings",
            ]),
        ),
        ("documentation", documentation),
        ("packages", packages(workspace)),
    ]
}

/// Every crate as a package, each with the others as its packages would be. That they also build from what is in the
/// packages takes minutes: docs/crates.md has the command.
fn packages(workspace: &Workspace) -> Command {
    let mut command = workspace.cargo(["package", "--no-verify", "--allow-dirty", "--quiet"]);
    for room in &ROOMS {
        command.arg("--package").arg(format!("{PREFIX}{}", room.name));
    }
    command
}

/// The crates that others use build with the oldest compiler that they state. It is not installed for this.
fn oldest_compiler(workspace: &Workspace) -> Result<Option<String>> {
    let mut wanted = BTreeSet::new();
    for package in array(&workspace.metadata, "packages")? {
        if FOR_OTHERS
            .iter()
            .any(|name| package["name"] == format!("{PREFIX}{name}"))
        {
            wanted.insert(string(package, "rust_version")?);
        }
    }
    let wanted: Vec<&str> = wanted.into_iter().collect();
    let [version] = wanted[..] else {
        bail!("the crates that others use state several oldest compilers: {wanted:?}");
    };
    println!("== Rust {version}");
    if !has_toolchain(version) {
        println!("not checked: `rustup toolchain install {version} --profile minimal` installs it");
        return Ok(None);
    }
    let mut command = Command::new("rustup");
    command.args(["run", version, "cargo", "check", "--quiet", "--lib", "--all-features"]);
    command
        .arg("--target-dir")
        .arg(workspace.target.join("oldest-compiler"));
    for name in FOR_OTHERS {
        command.arg("--package").arg(format!("{PREFIX}{name}"));
    }
    command
        .current_dir(&workspace.root)
        .env_remove("CARGO")
        .env_remove("RUSTUP_TOOLCHAIN");
    Ok(run_command(&mut command)
        .err()
        .map(|error| format!("Rust {version}: {error}")))
}

/// The crates that are of use to someone who never heard of the broker.
const FOR_OTHERS: [&str; 3] = ["wire", "raft", "storage"];

/// One room: a crate, and what it may depend on. The table of the design; a line here is a decision.
struct Room {
    name: &'static str,
    /// Crates of ours.
    ours: &'static [&'static str],
    /// Other people's.
    others: &'static [&'static str],
}

/// The crates. `xtask` and `tests` stand outside: the first depends on none of them, the second may on all.
const ROOMS: [Room; 10] = [
    Room {
        name: "wire",
        ours: &[],
        // crc32c: batch headers carry one. serde_json: JSON lines. The codecs and uuid: kafka-protocol's, behind limits.
        others: &[
            "bytes",
            "tokio-util",
            "serde",
            "postcard",
            "kafka-protocol",
            "crc32c",
            "serde_json",
            "flate2",
            "lz4",
            "snap",
            "zstd",
            "uuid",
        ],
    },
    Room {
        name: "raft",
        ours: &[],
        others: &["bytes", "serde"],
    },
    Room {
        name: "storage",
        ours: &["raft", "wire"],
        // crc32c: journal frames and index records carry one. rustix: preallocation, and positioned reads and writes.
        others: &["bytes", "serde", "postcard", "crc32c", "rustix"],
    },
    Room {
        name: "registry",
        ours: &[],
        others: &["serde", "postcard"],
    },
    Room {
        name: "multiraft",
        ours: &["raft", "storage", "wire"],
        others: &["bytes", "serde", "postcard"],
    },
    Room {
        name: "coordinator",
        ours: &[],
        others: &["bytes", "serde", "postcard"],
    },
    Room {
        name: "node",
        ours: &["wire", "raft", "storage", "multiraft", "registry", "coordinator"],
        others: &["bytes"],
    },
    Room {
        name: "transport",
        ours: &[],
        others: &["bytes", "tokio", "tokio-util", "tracing"],
    },
    Room {
        name: "client",
        ours: &["wire"],
        // clap: the client commands. kafka-protocol: requests and responses. tokio-util: the trait of wire's frame codec.
        others: &["bytes", "clap", "kafka-protocol", "tokio", "tokio-util"],
    },
    Room {
        name: "broker",
        ours: &[
            "wire",
            "raft",
            "storage",
            "registry",
            "multiraft",
            "coordinator",
            "node",
            "transport",
            // The client commands of the `trimaran` binary.
            "client",
        ],
        others: &[
            "anyhow",
            "axum",
            "bytes",
            "clap",
            // The data folder's description bears a checksum.
            "crc32c",
            "kafka-protocol",
            // The binary's allocator: gives back what is deleted (decision 30).
            "mimalloc",
            "prometheus-client",
            "rustix",
            "serde",
            "serde_json",
            "tokio",
            // The trait of wire's codec for JSON lines.
            "tokio-util",
            "toml",
            "tracing",
            "tracing-subscriber",
        ],
    },
];

/// The prefix of our packages' names.
const PREFIX: &str = "trimaran-";

/// Dependencies that the table doesn't allow. Those of tests alone may be anybody's, but ours only as the table says.
fn edges(metadata: &Value) -> Result<Vec<String>> {
    let mut wrong = Vec::new();
    for package in array(metadata, "packages")? {
        let name = string(package, "name")?;
        let short = name.strip_prefix(PREFIX).unwrap_or(name);
        for dependency in array(package, "dependencies")? {
            let to = string(dependency, "name")?;
            let for_tests = dependency["kind"] == "dev";
            wrong.extend(edge(name, short, to, for_tests));
        }
    }
    Ok(wrong)
}

/// What is wrong with one dependency.
fn edge(from: &str, short: &str, to: &str, for_tests: bool) -> Option<String> {
    let ours = to.strip_prefix(PREFIX);
    match (short, ROOMS.iter().find(|room| room.name == short)) {
        ("xtask", _) if ours.is_some() => Some(format!(
            "xtask depends on {to}: it only runs the binary, so that it builds in seconds"
        )),
        ("xtask", _) if to == "tokio" => {
            Some("xtask depends on tokio: it builds in seconds, and runs nothing async".to_owned())
        }
        ("xtask" | "tests", _) => None,
        (_, None) => Some(format!(
            "{from} is no room of the design; a further crate needs a reason in docs/decisions/ and a line in xtask/src/check.rs"
        )),
        (_, Some(room)) => {
            let allowed = match ours {
                Some(ours) => room.ours.contains(&ours),
                None => for_tests || room.others.contains(&to),
            };
            (!allowed).then(|| format!("{from} depends on {to}, which the design's table doesn't allow"))
        }
    }
}

/// What each room must have: a README with an example that is compiled and run as a test, no unsafe code, the
/// workspace's lints; and no test that is ignored.
fn rooms(workspace: &Workspace) -> Result<Vec<String>> {
    let mut wrong = Vec::new();
    for room in &ROOMS {
        let folder = workspace.root.join("crates").join(room.name);
        let library = read(&folder.join("src/lib.rs"))?;
        let mut demand = |holds: bool, what: &str| {
            if !holds {
                wrong.push(format!("crates/{}: {what}", room.name));
            }
        };
        demand(library.starts_with("//! "), "src/lib.rs doesn't open with a tour");
        demand(
            library.contains("#![forbid(unsafe_code)]"),
            "src/lib.rs doesn't forbid unsafe code",
        );
        demand(
            library.contains("#[doc = include_str!(\"../README.md\")]"),
            "src/lib.rs doesn't run README.md's example as a test",
        );
        demand(
            read(&folder.join("LICENSE")).ok() == read(&workspace.root.join("LICENSE")).ok(),
            "LICENSE is missing, or is another: `ln -s ../../LICENSE` makes it a part of the package",
        );
        let readme = read(&folder.join("README.md")).unwrap_or_default();
        demand(has_example(&readme), "README.md has no example in Rust that runs");
        let manifest = read(&folder.join("Cargo.toml"))?;
        demand(
            manifest.contains("[lints]\nworkspace = true"),
            "Cargo.toml doesn't take the workspace's lints",
        );
    }
    for file in sources(&workspace.root)? {
        let shown = file
            .strip_prefix(&workspace.root)
            .unwrap_or(&file)
            .display()
            .to_string();
        wrong.extend(forbidden(&shown, &read(&file)?));
    }
    Ok(wrong)
}

/// Whether a README has a code block that rustdoc runs.
fn has_example(readme: &str) -> bool {
    readme.lines().any(|line| line == "```rust" || line == "```")
        && !readme
            .lines()
            .any(|line| line.starts_with("```rust,") && line.contains("ignore"))
}

/// Words that no source may have. Pieced together, so that this file has none.
fn forbidden(file: &str, text: &str) -> Vec<String> {
    let ignored = concat!("#[", "ignore");
    let find = |(number, line): (usize, &str)| {
        line.trim_start()
            .starts_with(ignored)
            .then(|| format!("{file}:{}: an ignored test proves nothing", number + 1))
    };
    text.lines().enumerate().filter_map(find).collect()
}

/// Every Rust source of the workspace.
fn sources(root: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = ["crates", "xtask", "tests"].map(|folder| root.join(folder)).to_vec();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| format!("can't read {}", folder.display()))? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

fn read(file: &Path) -> Result<String> {
    fs::read_to_string(file).with_context(|| format!("can't read {}", file.display()))
}

fn array<'a>(value: &'a Value, key: &str) -> Result<&'a Vec<Value>> {
    value[key]
        .as_array()
        .with_context(|| format!("`cargo metadata` has no {key}"))
}

fn string<'a>(value: &'a Value, key: &str) -> Result<&'a str> {
    value[key]
        .as_str()
        .with_context(|| format!("`cargo metadata` has no {key}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_wrong(from: &str, to: &str, for_tests: bool) -> bool {
        edge(from, from.strip_prefix(PREFIX).unwrap_or(from), to, for_tests).is_some()
    }

    #[test]
    fn edges_are_as_the_table_says() {
        assert!(!is_wrong("trimaran-storage", "trimaran-raft", false));
        assert!(is_wrong("trimaran-raft", "trimaran-storage", false), "uphill");
        assert!(is_wrong("trimaran-raft", "trimaran-storage", true), "not even in tests");
        assert!(is_wrong("trimaran-raft", "tokio", false));
        assert!(!is_wrong("trimaran-storage", "tempfile", true));
        assert!(is_wrong("trimaran-storage", "tempfile", false));
        assert!(
            is_wrong("trimaran-utils", "bytes", false),
            "a crate that the table lacks"
        );
        assert!(is_wrong("xtask", "trimaran-raft", false) && is_wrong("xtask", "tokio", false));
        assert!(!is_wrong("trimaran-tests", "trimaran-broker", false));
    }

    #[test]
    fn the_table_has_no_circle() {
        for (place, room) in ROOMS.iter().enumerate() {
            let below = |name: &&str| {
                ROOMS
                    .iter()
                    .position(|other| other.name == *name)
                    .is_some_and(|other| other < place)
            };
            assert!(
                room.ours.iter().all(|name| below(name) || room.name == "broker"),
                "{}",
                room.name
            );
        }
    }

    #[test]
    fn ignored_tests_are_found() {
        let text = format!("fn a() {{}}\n    {}\nfn b() {{}}", concat!("#[", "ignore]"));
        assert_eq!(forbidden("x.rs", &text), ["x.rs:2: an ignored test proves nothing"]);
        assert!(forbidden("x.rs", "// nothing is ignored").is_empty());
    }

    #[test]
    fn an_example_is_one_that_runs() {
        assert!(has_example("# x\n```rust\nlet x = 1;\n```\n"));
        assert!(!has_example("# x\n"));
        assert!(!has_example("```rust,ignore\n```\n"));
    }
}
