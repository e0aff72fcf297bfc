//! Several inputs, one step.

use super::paper::{accepted, append, says};
use super::replica::{Deed, Replica, member};
use crate::*;
use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

fn message(from: u64, term: u64, body: Body) -> Input {
    Input::Message(NodeId(from), Message { term: Term(term), body })
}

impl Replica {
    /// Tells it these things and settles it once. Its disk takes its time.
    fn burst(&mut self, inputs: impl IntoIterator<Item = Input>) -> Output {
        for input in inputs {
            let output = self.act(Instant::ZERO, Deed::Tell(input));
            assert!(self.up().has_ready(), "it is not full");
            assert_eq!(
                (output.persist, output.messages),
                (None, vec![]),
                "all that can wait does"
            );
        }
        self.act(Instant::ZERO, Deed::Settle)
    }

    /// A leader of term 2, with a blank entry that all know to be committed.
    fn lead(&mut self) {
        self.elect();
        self.answer(2, 2, accepted(1, 0));
        self.answer(3, 2, accepted(1, 0));
        self.answer(2, 2, accepted(1, 1));
        self.answer(3, 2, accepted(1, 1));
        assert_eq!(self.up().commit(), LogIndex(1));
    }
}

fn written(output: &Output) -> Vec<u64> {
    let entries = output.persist.iter().flat_map(|persist| &persist.entries);
    entries.map(|entry| entry.index.0).collect()
}

#[test]
fn proposals_of_a_burst_are_one_write_and_one_append_a_follower() {
    let mut replica = member(1, &[]);
    replica.lead();
    let output = replica.burst(["a", "b", "c"].map(|payload| Input::Propose(vec![payload.into()])));
    assert_eq!(written(&output), [2, 3, 4]);
    let appends = output.messages.iter().map(|(to, message)| match &message.body {
        Body::Append { entries, .. } => (to.0, entries.len()),
        other => panic!("{other:?}"),
    });
    assert_eq!(appends.collect::<Vec<_>>(), [(2, 3), (3, 3)]);
}

#[test]
fn each_proposal_of_a_burst_is_answered_at_once() {
    let mut replica = member(1, &[]);
    replica.lead();
    for index in [2, 3] {
        let output = replica.act(Instant::ZERO, Deed::Tell(Input::Propose(vec!["a".into()])));
        let proposed = output.proposed.expect("an answer").expect("it leads");
        assert_eq!((proposed.first.0, proposed.last.0), (index, index));
    }
}

#[test]
fn acknowledgements_of_a_burst_commit_once() {
    let mut replica = member(1, &[]);
    replica.lead();
    let output = replica.step(Instant::ZERO, Input::Propose(vec!["a".into()]));
    let token = output.persist.expect("a write").token;
    let acks = [2, 3].map(|from| message(from, 2, accepted(2, 1)));
    let output = replica.burst([Input::Persisted(token)].into_iter().chain(acks));
    assert_eq!(output.committed, Some(LogIndex(2)));
    assert_eq!(output.messages.len(), 2, "each follower is told the commit index once");
}

#[test]
fn appends_of_a_burst_are_one_write_and_one_acknowledgement() {
    let mut replica = member(2, &[1]);
    let appends = [append((1, 1), &[2], 0), append((2, 2), &[2, 2], 1)];
    // The first one names the leader.
    replica.answer(2, 2, append((1, 1), &[], 0));
    let output = replica.burst(appends.map(|body| message(2, 2, body)));
    assert_eq!(written(&output), [2, 3, 4]);
    assert_eq!(output.messages, vec![]);
    let token = replica.sync_one().expect("a write");
    let output = replica.step(Instant::ZERO, Input::Persisted(token));
    assert_eq!(output.messages, says(2, 2, accepted(4, 1)));
}

/// Otherwise a follower that is sent more all the time would never acknowledge anything.
#[test]
fn a_step_that_appends_acknowledges_what_its_disk_has_answered_for() {
    let mut replica = member(2, &[1]);
    replica.answer(2, 2, append((1, 1), &[], 0));
    replica.burst([message(2, 2, append((1, 1), &[2], 0))]);
    for index in 2..6 {
        let token = replica.sync_one().expect("a write");
        let more = message(2, 2, append((2, index), &[2], 0));
        let output = replica.burst([Input::Persisted(token), more]);
        assert_eq!(written(&output), [index + 1]);
        assert_eq!(output.messages, says(2, 2, accepted(index, 0)));
    }
}

/// What the next leader replaces need not have been written before.
#[test]
fn what_is_replaced_within_a_step_is_not_written() {
    let mut replica = member(2, &[1, 1]);
    replica.answer(2, 2, append((1, 2), &[], 1));
    let old = replica.act(Instant::ZERO, Deed::Tell(message(2, 2, append((1, 2), &[2, 2], 1))));
    assert_eq!(old.persist, None);
    let output = replica.act(Instant::ZERO, Deed::Tell(message(3, 3, append((2, 3), &[3], 1))));
    let persist = output.persist.expect("a full step is settled");
    assert_eq!(persist.truncate_from, None, "the log holds nothing of it");
    assert_eq!(replica.log_terms(), [1, 1, 2, 3]);
}

#[test]
fn what_is_replaced_may_begin_before_the_step() {
    let mut replica = member(2, &[1, 1]);
    replica.answer(2, 2, append((1, 2), &[], 1));
    let _ = replica.act(Instant::ZERO, Deed::Tell(message(2, 2, append((1, 2), &[2, 2], 1))));
    let output = replica.act(Instant::ZERO, Deed::Tell(message(3, 3, append((1, 1), &[3], 1))));
    let persist = output.persist.expect("a full step is settled");
    assert_eq!(persist.truncate_from, Some(LogIndex(2)));
    assert_eq!(replica.log_terms(), [1, 3]);
}

/// A late append with fewer entries is no reason to delete those that this step has taken over, but not written.
#[test]
fn a_late_append_deletes_nothing_of_the_same_step() {
    let mut replica = member(2, &[1]);
    replica.answer(2, 2, append((1, 1), &[], 0));
    let appends = [append((1, 1), &[2, 2, 2], 0), append((1, 1), &[2], 0)];
    let output = replica.burst(appends.map(|body| message(2, 2, body)));
    assert_eq!(written(&output), [2, 3, 4]);
}

#[test]
fn a_snapshot_voids_what_the_same_step_has_taken_over() {
    let mut replica = member(2, &[1]);
    replica.answer(2, 2, append((1, 1), &[], 0));
    let _ = replica.act(Instant::ZERO, Deed::Tell(message(2, 2, append((1, 1), &[2, 2], 0))));
    let snapshot = Body::Snapshot {
        snapshot: Box::new(Snapshot {
            index: LogIndex(9),
            term: Term(2),
            configuration: replica.up().configuration().clone(),
            data: bytes::Bytes::new(),
        }),
        commit: LogIndex(9),
        replicated_index: LogIndex::ZERO,
    };
    let output = replica.act(Instant::ZERO, Deed::Tell(message(2, 2, snapshot)));
    let persist = output.persist.expect("a full step is settled");
    assert_eq!(persist.reset.map(|reset| reset.index), Some(LogIndex(9)));
    assert_eq!(persist.entries, vec![]);
}

#[test]
fn what_is_applied_needs_no_settling() {
    let mut replica = member(1, &[]);
    replica.lead();
    assert!(replica.up().is_serving());
    replica.act(Instant::ZERO, Deed::Tell(Input::Applied(LogIndex(1))));
    assert!(!replica.up().has_ready());
}

#[test]
#[should_panic(expected = "`ready` must be called before a full step handles more")]
fn a_full_step_takes_no_more() {
    let mut replica = member(1, &[]);
    let (log, mut output) = (MemoryLog::new(), Output::default());
    let group = replica.group.as_mut().expect("it is up");
    let told = group.handle(Instant::ZERO, message(2, 5, append((0, 0), &[], 0)), &log, &mut output);
    assert_eq!(told, Handled::Full, "another term");
    let _ = group.handle(Instant::ZERO, Input::Tick, &log, &mut output);
}
