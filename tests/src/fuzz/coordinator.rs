//! Commands of a coordinator's partition: committed, they are applied on every replica, and must do the same there.

use super::pieces::{Pieces, put_piece};
use trimaran_coordinator::{Command, CommandIndex, Commit, Mode, Offset, OffsetStore};

/// Several commands, applied in turn.
pub(super) fn target(data: &[u8]) {
    let mut pieces = Pieces::new(data);
    let (mut one, mut other) = (OffsetStore::default(), OffsetStore::default());
    let mut index = 0;
    while !pieces.is_empty() {
        let Ok(command) = Command::decode(pieces.piece()) else {
            continue;
        };
        assert_eq!(Command::decode(&command.encode()), Ok(command.clone()));
        let _ = one.check(&command);
        index += 1;
        let outcome = one.apply(CommandIndex(index), &command);
        assert_eq!(other.apply(CommandIndex(index), &command), outcome);
    }
    assert!(other == one);
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let commit = Commit {
        offset: Offset(42),
        leader_epoch: Some(3),
        metadata: "mark".into(),
    };
    let group = || "billing".to_owned();
    let offsets = vec![
        ("orders".to_owned(), 0, commit.clone()),
        ("orders".to_owned(), 1, commit),
    ];
    let commands = [Mode::Replace, Mode::Advance].map(|mode| Command::Commit {
        group: group(),
        now_ms: 1000,
        mode,
        offsets: offsets.clone(),
    });
    let others = [
        Command::Occupied { group: group() },
        Command::Emptied {
            group: group(),
            now_ms: 2000,
        },
        Command::DeleteOffsets {
            group: group(),
            partitions: vec![("orders".into(), 1)],
        },
        Command::Expire {
            now_ms: 9000,
            retention_ms: 5000,
        },
        Command::DeleteTopic { topic: "orders".into() },
        Command::DeleteGroup { group: group() },
    ];
    let commands: Vec<Vec<u8>> = commands.iter().chain(&others).map(Command::encode).collect();
    let script = |commands: &[Vec<u8>]| {
        let mut script = Vec::new();
        commands.iter().for_each(|command| put_piece(&mut script, command));
        script
    };
    let mut seeds: Vec<Vec<u8>> = commands.chunks(1).map(script).collect();
    seeds.push(script(&commands));
    seeds
}
