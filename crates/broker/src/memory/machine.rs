//! How much memory there is: the container's limit if it has one, else the machine's.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// What the total follows from where nothing can be found out: what a small machine has.
const UNKNOWN_BYTES: u64 = 1 << 30;

/// The memory that this process may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    /// In bytes.
    pub bytes: u64,
    /// Where the number came from.
    pub origin: Origin,
}

/// Where the amount of memory was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A control group's limit: a container, or a systemd unit with `MemoryMax`.
    ControlGroup,
    /// The machine's memory.
    Machine,
    /// Neither could be read.
    Unknown,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Origin::ControlGroup => "the container's limit",
            Origin::Machine => "the machine's memory",
            Origin::Unknown => "unknown memory",
        })
    }
}

impl Machine {
    /// Asks the running system.
    pub fn find() -> Machine {
        Machine::find_below(Path::new("/"))
    }

    /// Reads `proc` and `sys` below `root`. The smallest limit holds: control groups nest, and may allow more than the
    /// machine has.
    fn find_below(root: &Path) -> Machine {
        let memory = fs::read_to_string(root.join("proc/meminfo")).ok();
        let memory = memory.as_deref().and_then(total_of).map(|bytes| Machine {
            bytes,
            origin: Origin::Machine,
        });
        let groups = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
        let limit = limit_files(root, &groups)
            .iter()
            .filter_map(|file| limit_in(file))
            .min()
            .map(|bytes| Machine {
                bytes,
                origin: Origin::ControlGroup,
            });
        [memory, limit]
            .into_iter()
            .flatten()
            .min_by_key(|found| found.bytes)
            .unwrap_or(Machine {
                bytes: UNKNOWN_BYTES,
                origin: Origin::Unknown,
            })
    }
}

/// `MemTotal` of `/proc/meminfo`.
fn total_of(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// The files with limits of this process' control groups and of all that they are in, by `/proc/self/cgroup`. In a
/// container the group's path may be the host's, and not exist: its root then stands for it.
fn limit_files(root: &Path, groups: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        let (hierarchy, name) = if controllers.is_empty() {
            ("sys/fs/cgroup", "memory.max")
        } else if controllers.split(',').any(|controller| controller == "memory") {
            ("sys/fs/cgroup/memory", "memory.limit_in_bytes")
        } else {
            continue;
        };
        // Paths with `..` name groups outside of this process' namespace, which can't be seen.
        let path = Path::new(path.trim_start_matches('/'));
        let is_inside = path
            .components()
            .all(|part| matches!(part, std::path::Component::Normal(_)));
        let path = if is_inside { path } else { Path::new("") };
        files.extend(
            path.ancestors()
                .map(|group| root.join(hierarchy).join(group).join(name)),
        );
    }
    files
}

/// The limit in a file; none if there is none (`max`), or no such file.
fn limit_in(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A system with these files.
    fn system(files: &[(&str, &str)]) -> Machine {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        Machine::find_below(root.path())
    }

    const MEMINFO: (&str, &str) = ("proc/meminfo", "MemTotal:        1048576 kB\nMemFree:  12 kB\n");

    #[track_caller]
    fn check(files: &[(&str, &str)], bytes: u64, origin: Origin) {
        assert_eq!(system(files), Machine { bytes, origin });
    }

    #[test]
    fn without_a_container_it_is_the_machines() {
        check(&[MEMINFO], 1 << 30, Origin::Machine);
        let unlimited = [
            MEMINFO,
            ("proc/self/cgroup", "0::/user.slice\n"),
            ("sys/fs/cgroup/user.slice/memory.max", "max\n"),
        ];
        check(&unlimited, 1 << 30, Origin::Machine);
    }

    #[test]
    fn the_smallest_limit_of_nested_groups_holds() {
        let files = [
            MEMINFO,
            ("proc/self/cgroup", "0::/a/b\n"),
            ("sys/fs/cgroup/a/b/memory.max", "max\n"),
            ("sys/fs/cgroup/a/memory.max", "268435456\n"),
        ];
        check(&files, 256 << 20, Origin::ControlGroup);
    }

    #[test]
    fn the_first_version_of_control_groups_is_read_too() {
        let files = [
            MEMINFO,
            ("proc/self/cgroup", "5:cpu,cpuacct:/x\n4:memory:/docker/0123\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "536870912\n"),
        ];
        check(&files, 512 << 20, Origin::ControlGroup);
    }

    #[test]
    fn a_limit_above_the_machines_memory_is_none() {
        let files = [
            MEMINFO,
            ("proc/self/cgroup", "4:memory:/\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
        ];
        check(&files, 1 << 30, Origin::Machine);
    }

    #[test]
    fn nonsense_is_no_limit() {
        let files = [
            ("proc/meminfo", "MemTotal: lots\n"),
            ("proc/self/cgroup", "0::/../../elsewhere\nnothing\n4:memory\n"),
            ("sys/fs/cgroup/memory.max", "12 bananas\n"),
        ];
        check(&files, UNKNOWN_BYTES, Origin::Unknown);
    }

    #[test]
    fn this_machine_has_memory() {
        assert!(Machine::find().bytes > 1 << 20);
    }
}
