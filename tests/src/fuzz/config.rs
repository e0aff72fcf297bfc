//! What a broker is told at its start.

use super::pieces::{Pieces, put_piece};
use std::cell::RefCell;
use std::io::{Seek, Write};
use tempfile::NamedTempFile;
use trimaran_broker::config::{ConfigError, Settings, keys};

thread_local! {
    /// Settings are read from a file. It is written over and over.
    static FILE: RefCell<NamedTempFile> =
        RefCell::new(NamedTempFile::new().expect("temporary files can be made"));
}

/// A file, then pairs of a variable and its value, then pairs of a key and its value.
pub(super) fn target(data: &[u8]) {
    if names_a_listener(data) {
        return;
    }
    let mut pieces = Pieces::new(data);
    let file = pieces.piece();
    let pairs = |pieces: &mut Pieces<'_>| -> Vec<(String, String)> {
        let mut text = || String::from_utf8_lossy(pieces.piece()).into_owned();
        (0..2).map(|_| (text(), text())).collect()
    };
    let environment = pairs(&mut pieces);
    let flags = pairs(&mut pieces);
    let flags: Vec<_> = flags.into_iter().filter(|(key, _)| !key.is_empty()).collect();
    FILE.with_borrow_mut(|place| {
        write(place, file);
        let load = || Settings::load(Some(place.path()), environment.clone(), &flags);
        match load() {
            Ok(settings) => {
                assert_eq!(load().expect("the same once more"), settings);
                sensible(&settings);
            }
            Err(error) => clear(&error, place),
        }
    });
}

/// Listeners may be given by host names, and no input of a fuzzer is to be looked up in DNS.
fn names_a_listener(data: &[u8]) -> bool {
    String::from_utf8_lossy(data).to_lowercase().contains("listeners")
}

fn write(place: &mut NamedTempFile, bytes: &[u8]) {
    let file = place.as_file_mut();
    file.set_len(0).expect("it is ours");
    file.rewind().expect("it is ours");
    file.write_all(bytes).expect("it is ours");
}

/// What starts threads, allocates and listens must not be told nonsense.
fn sensible(settings: &Settings) {
    let limits = &settings.limits;
    assert!(
        (1..=4096).contains(&settings.broker.shards),
        "{}",
        settings.broker.shards
    );
    assert!(limits.frame_bytes > 0 && limits.pipeline > 0 && limits.connections > 0);
    assert!(limits.mailbox_requests > 0 && limits.journal_file_bytes > 0 && limits.journal_files > 0);
    assert!(settings.cluster.failover_budget_ms > 0 && settings.cluster.default_partitions > 0);
    let voters = &settings.cluster.voters;
    assert!(voters.is_empty() || voters.iter().any(|voter| voter.id == settings.broker.id));
}

/// An error about the file names it, and every error says what is wrong.
fn clear(error: &ConfigError, place: &NamedTempFile) {
    let text = error.to_string();
    assert!(!text.is_empty());
    if let ConfigError::File { path, .. } | ConfigError::Syntax { path, .. } = error {
        assert_eq!(path, place.path());
        assert!(text.contains(&*path.to_string_lossy()), "{text}");
    }
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let mut everything = String::new();
    for key in keys::KEYS.iter().filter(|key| !names_a_listener(key.name.as_bytes())) {
        // Defaults are texts for people; where one is no value, the error must be a clear one as well.
        everything.push_str(&format!("{} = \"{}\"\n", key.name, key.default));
    }
    let cluster = "[broker]\nid = 2\nrack = \"r\"\n[cluster]\nvoters = \"1@127.0.0.1:9192,2@127.0.0.1:9193\"\n\
                   [topic]\nretention.ms = 1000\n[limits]\nframe_bytes = 1000000\n";
    let mut seeds: Vec<Vec<u8>> = everything.lines().map(|line| told(line, [""; 4])).collect();
    seeds.push(told(&everything, [""; 4]));
    seeds.push(told(cluster, ["TRIMARAN_BROKER_ID", "1", "broker.log", "debug"]));
    seeds.push(told(
        "",
        ["TRIMARAN_TOPIC_RETENTION_MS", "5", "cluster.failover_budget_ms", "100"],
    ));
    seeds
}

/// A file, one variable and one flag.
fn told(file: &str, [variable, its_value, key, value]: [&str; 4]) -> Vec<u8> {
    let mut seed = Vec::new();
    for piece in [file, variable, its_value, "", "", key, value] {
        put_piece(&mut seed, piece.as_bytes());
    }
    seed
}
