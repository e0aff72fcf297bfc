//! What the documents show is what the binary takes.

use std::fs;
use trimaran_tests::process::{run_with_input, workspace};

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
        assert!(error.contains("can't bind to 192.0.2.1:9092"), "{error}");
        assert_eq!(output.status.code(), Some(1), "{error}");
    }
}
