//! What `docs/operations.md` says about configuration and metrics is true.

use crate::admin::get;
use crate::support::single;
use std::io::Write;
use trimaran_broker::Settings;
use trimaran_broker::config::keys;

fn operations() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/operations.md");
    std::fs::read_to_string(path).expect("docs/operations.md is there")
}

#[test]
fn the_example_file_is_accepted_and_the_keys_exist() {
    let text = operations();
    let example = text.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next());
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(example.expect("an example in TOML").as_bytes()).unwrap();
    let settings = Settings::load(Some(file.path()), Vec::new(), &[]).unwrap();
    assert_eq!(settings.cluster.voters.len(), 3);
    let known: Vec<String> = keys::all_names().collect();
    let quoted = text.split('`').skip(1).step_by(2);
    for name in quoted.filter(|name| name.starts_with("cluster.") || name.starts_with("broker.")) {
        assert!(
            known.iter().any(|key| key == name),
            "docs/operations.md names `{name}`, which is no key"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_metrics_that_are_named_exist() {
    let data = tempfile::tempdir().unwrap();
    let server = single(data.path()).await;
    let (_, metrics) = get(server.addresses().admin, "/metrics").await;
    let text = operations();
    let is_name = |c: char| c.is_ascii_lowercase() || c == '_';
    let names = text.match_indices("trimaran_").map(|(at, _)| {
        let rest = &text[at..];
        &rest[..rest.find(|c| !is_name(c)).unwrap_or(rest.len())]
    });
    for name in names.filter(|name| name.len() > "trimaran_".len()) {
        assert!(
            metrics.contains(name),
            "docs/operations.md names `{name}`, which /metrics does not show"
        );
    }
    server.kill().await;
}
