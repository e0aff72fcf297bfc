//! What the documents show is what the binary takes.

use std::fs;
use trimaran_tests::process::{run_with_input, workspace};
use trimaran_tests::sabotage::SCENARIOS;

/// The blocks of a language in a Markdown file.
fn blocks(text: &str, language: &str) -> Vec<String> {
    let fence = format!("```{language}\n");
    let after_fences = text.split(fence.as_str()).skip(1);
    after_fences
        .filter_map(|rest| rest.split("```").next().map(str::to_owned))
        .collect()
}

#[test]
fn the_configuration_in_operations_is_understood() {
    let text = fs::read_to_string(workspace().join("docs/operations.md")).expect("the document can be read");
    let configurations = blocks(&text, "toml");
    assert!(!configurations.is_empty());
    for configuration in configurations {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("trimaran.toml");
        // Addresses that are reserved for documents (RFC 5737), so that no machine has them: a configuration that is
        // understood fails when it binds, and not before.
        fs::write(&file, configuration.replace("10.0.0.", "192.0.2.")).expect("a file can be written");
        let file = file.to_str().expect("temporary folders have names in UTF-8");
        let output = run_with_input(&["broker", "--config", file], b"");
        let error = String::from_utf8_lossy(&output.stderr);
        let binds = error.contains("can't bind to 192.0.2.") && error.contains(":9092");
        assert!(binds, "{error}");
        assert_eq!(output.status.code(), Some(1), "{error}");
    }
}

/// `cargo xtask sabotage --write` writes the table; here it is seen whether that was forgotten.
#[test]
fn the_table_of_bugs_names_every_switch() {
    let text = fs::read_to_string(workspace().join("docs/testing.md")).expect("the document can be read");
    for scenario in SCENARIOS {
        let switch = format!("`{}::{}`", scenario.room.name(), scenario.switch);
        let row = text.lines().find(|line| line.contains(&switch));
        let row = row.unwrap_or_else(|| panic!("{switch} is missing; run `cargo xtask sabotage --write`"));
        assert!(row.contains(scenario.what) && row.contains(scenario.source), "{row}");
    }
}
