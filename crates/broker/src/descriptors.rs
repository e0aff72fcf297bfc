//! How many files and sockets this process may have open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What a broker needs beside its clients' connections: the journal, peers, the administration port, and segments that are
/// being read or written.
const BESIDE_CLIENTS: u64 = 512;

/// Raises the soft limit to the hard one, as far as the system allows, and returns the limit in force; none if there is none.
///
/// Shells and service managers hand down a soft limit of 1,024 (or less) for the sake of programs that use `select`, which we
/// don't.
pub(crate) fn raise_limit() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    }
}

/// The warning that a limit deserves with so many client connections configured; none if it is enough.
pub(crate) fn warning(limit: Option<u64>, connections: usize) -> Option<String> {
    let needed = u64::try_from(connections)
        .unwrap_or(u64::MAX)
        .saturating_add(BESIDE_CLIENTS);
    let limit = limit.filter(|limit| *limit < needed)?;
    Some(format!(
        "this process may open {limit} files and sockets, and `limits.connections` = {connections} may need {needed}: connections \
         and reads will fail before that limit says so. Raise the hard limit (`ulimit -Hn`, LimitNOFILE= in a systemd unit), or \
         lower `limits.connections`"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_low_limit_deserves_a_warning() {
        let warning = warning(Some(256), 100).expect("256 is too few");
        assert!(
            warning.contains("256") && warning.contains("612") && warning.contains("LimitNOFILE"),
            "{warning}"
        );
    }

    #[test]
    fn enough_is_enough() {
        assert_eq!(warning(Some(612), 100), None);
        assert_eq!(warning(None, usize::MAX), None);
    }

    #[test]
    fn the_soft_limit_is_raised_to_the_hard_one() {
        let limit = raise_limit();
        assert_eq!(limit, getrlimit(Resource::Nofile).current);
        assert_eq!(limit, getrlimit(Resource::Nofile).maximum);
    }
}
