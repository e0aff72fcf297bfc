//! The dependencies of the crates that others use without Kafka.

use super::read;
use crate::workspace::{Workspace, output_of};
use anyhow::Result;

/// A crate as a stranger takes it: the arguments that say so to `cargo tree`.
const STAND_ALONE: [&[&str]; 2] = [
    &["--package", "trimaran-raft"],
    &["--package", "trimaran-storage", "--no-default-features"],
];

/// Libraries that none of them may pull in, as `cargo tree` writes them.
const FORBIDDEN: [&str; 4] = ["tokio", "tokio_util", "kafka_protocol", "trimaran_wire"];

/// The page that shows the trees.
const PAGE: &str = "docs/crates.md";

/// The faults of the trees, and of the page that shows them.
pub(super) fn check(workspace: &Workspace) -> Result<Vec<String>> {
    let page = read(&workspace.root.join(PAGE))?;
    let mut wrong = Vec::new();
    for arguments in STAND_ALONE {
        let mut command = workspace.cargo(["tree", "--edges", "normal,build", "--format", "{lib}"]);
        // Some dependencies depend on the system; the page shows those of one.
        command.args(["--charset", "utf8", "--target", "x86_64-unknown-linux-gnu"]);
        let tree = output_of(command.args(arguments), &[])?;
        wrong.extend(judge(&arguments.join(" "), &tree, &page));
    }
    Ok(wrong)
}

fn judge(which: &str, tree: &str, page: &str) -> Vec<String> {
    let mut wrong: Vec<String> = FORBIDDEN
        .iter()
        .filter(|library| tree.lines().any(|line| name(line) == **library))
        .map(|library| format!("`cargo tree {which}` has {library}: this crate is to stand alone"))
        .collect();
    if !page.contains(tree.trim_end()) {
        wrong.push(format!(
            "{PAGE} doesn't show what `cargo tree {which}` prints now:\n{tree}"
        ));
    }
    wrong
}

/// A line's library, without the branches before it.
fn name(line: &str) -> &str {
    let name = line.trim_start_matches(|letter: char| !letter.is_alphanumeric());
    name.split_whitespace().next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TREE: &str = "trimaran_storage\n├── bytes\n└── trimaran_raft\n    └── bytes\n";

    #[test]
    fn a_tree_is_as_the_page_shows_it_and_has_nothing_forbidden() {
        let page = format!("text\n\n```text\n{TREE}```\n");
        assert!(judge("x", TREE, &page).is_empty());
        assert_eq!(judge("x", TREE, "text").len(), 1);
        let wrong = judge(
            "x",
            "a\n├── b\n│   └── tokio v1.0 (*)\n",
            "a\n├── b\n│   └── tokio v1.0 (*)\n",
        );
        assert_eq!(wrong, ["`cargo tree x` has tokio: this crate is to stand alone"]);
        assert!(judge("x", "a\n└── tokio_like\n", "a\n└── tokio_like\n").is_empty());
    }
}
