//! Who leads what, ordered by term: news may come late, twice, or from several sides.
//!
//! Within a term a group has at most one leader, so news of a later term always wins, and within a term the leader's own
//! word wins over what others think. A leader numbers its words, so that among them the later one wins.

use crate::{BrokerId, GroupId, Term};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What is known of a group's leadership.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leadership {
    /// The latest term known.
    pub term: Term,
    /// Its leader, if one is known.
    pub leader: Option<BrokerId>,
    /// The leader has said so itself, and serves clients.
    pub serving: bool,
    /// The replicas that the leader reports in sync, itself included. Empty until it has reported.
    pub in_sync: Arc<[BrokerId]>,
    /// How good the evidence is.
    evidence: Evidence,
}

/// What a piece of news rests on; a greater one wins within a term.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Evidence {
    /// A replica entered the term and knows no leader yet.
    Term,
    /// A replica follows that leader.
    Follower,
    /// The leader's own word, with the number that it gave it.
    Leader(u64),
}

/// A leader's own word on one of its groups.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Word {
    pub(crate) group: GroupId,
    pub(crate) term: Term,
    /// Whether it still leads, and serves.
    pub(crate) leads: bool,
    #[serde(with = "shared_list")]
    pub(crate) in_sync: Arc<[BrokerId]>,
}

/// Serde knows shared slices only behind a feature that no other crate needs.
mod shared_list {
    use super::{Arc, BrokerId, Deserialize, Serialize};

    pub(super) fn serialize<S: serde::Serializer>(list: &Arc<[BrokerId]>, serializer: S) -> Result<S::Ok, S::Error> {
        (**list).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Arc<[BrokerId]>, D::Error> {
        Vec::deserialize(deserializer).map(Arc::from)
    }
}

/// Groups with neighbouring numbers share a page: a clone copies only the list of pages.
const PAGE: u64 = 256;

/// What is known of one group. What leaders have said stays known beside what the replica here believes: if that goes, the
/// others' word holds, which nobody says twice.
#[derive(Clone, Debug, Default)]
struct Known {
    /// The latest word of a leader.
    told: Option<Leadership>,
    /// As the replica on this broker sees it, if there is one.
    seen: Option<Leadership>,
}

impl Known {
    fn best(&self) -> Option<&Leadership> {
        match (&self.told, &self.seen) {
            (Some(told), Some(seen)) if seen.supersedes(told) => Some(seen),
            (told, seen) => told.as_ref().or(seen.as_ref()),
        }
    }
}

type Page = BTreeMap<GroupId, Known>;

/// All leaderships that are known. A clone is cheap and never changes: publish one after every change.
#[derive(Clone, Debug, Default)]
pub struct LeaderView {
    pages: BTreeMap<u64, Arc<Page>>,
    version: u64,
}

impl LeaderView {
    /// What is known of a group, or none.
    pub fn leadership(&self, group: GroupId) -> Option<&Leadership> {
        self.pages.get(&(group.0 / PAGE))?.get(&group)?.best()
    }

    /// The broker that leads a group as far as known.
    pub fn leader(&self, group: GroupId) -> Option<BrokerId> {
        self.leadership(group)?.leader
    }

    /// Counts the changes: an unchanged version is an unchanged view.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// A replica on this broker is in that term, and follows that leader. Returns whether it was news.
    pub(crate) fn seen(&mut self, group: GroupId, term: Term, leader: Option<BrokerId>) -> bool {
        let evidence = if leader.is_some() {
            Evidence::Follower
        } else {
            Evidence::Term
        };
        let leadership = Leadership {
            term,
            leader,
            serving: false,
            in_sync: Arc::default(),
            evidence,
        };
        self.learn(group, leadership, |known| &mut known.seen)
    }

    /// A leader has said so itself; `number` counts what it said. Returns whether it was news.
    pub(crate) fn told(&mut self, from: BrokerId, number: u64, word: &Word) -> bool {
        let leadership = Leadership {
            term: word.term,
            leader: word.leads.then_some(from),
            serving: word.leads,
            in_sync: word.in_sync.clone(),
            evidence: Evidence::Leader(number),
        };
        self.learn(word.group, leadership, |known| &mut known.told)
    }

    fn learn(&mut self, group: GroupId, news: Leadership, place: fn(&mut Known) -> &mut Option<Leadership>) -> bool {
        let is_best = self.leadership(group).is_none_or(|known| news.supersedes(known));
        let page = self.pages.entry(group.0 / PAGE).or_default();
        let known = place(Arc::make_mut(page).entry(group).or_default());
        if known.as_ref().is_some_and(|known| !news.supersedes(known)) {
            return false;
        }
        *known = Some(news);
        self.version += u64::from(is_best);
        is_best
    }

    /// There is no replica on this broker any more: what it believed, perhaps in a term in which it stood in vain after it
    /// had been removed, is nothing to go by.
    pub(crate) fn unsee(&mut self, group: GroupId) {
        let Some(page) = self.pages.get_mut(&(group.0 / PAGE)) else {
            return;
        };
        if page.get(&group).is_some_and(|known| known.seen.is_some()) {
            Arc::make_mut(page).entry(group).or_default().seen = None;
            self.version += 1;
        }
    }

    /// The group is gone for good.
    pub(crate) fn forget(&mut self, group: GroupId) {
        let number = group.0 / PAGE;
        let Some(page) = self.pages.get_mut(&number) else {
            return;
        };
        if page.contains_key(&group) {
            Arc::make_mut(page).remove(&group);
            self.version += 1;
        }
        if page.is_empty() {
            self.pages.remove(&number);
        }
    }
}

impl Leadership {
    fn supersedes(&self, known: &Leadership) -> bool {
        (self.term, self.evidence) > (known.term, known.evidence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUP: GroupId = GroupId(300);

    fn word(term: u64, leads: bool, in_sync: &[i32]) -> Word {
        let in_sync = in_sync.iter().map(|&id| BrokerId(id)).collect();
        Word {
            group: GROUP,
            term: Term(term),
            leads,
            in_sync,
        }
    }

    fn state(view: &LeaderView) -> (u64, Option<i32>, bool, usize) {
        let known = view.leadership(GROUP).unwrap();
        (
            known.term.0,
            known.leader.map(|id| id.0),
            known.serving,
            known.in_sync.len(),
        )
    }

    #[test]
    fn a_later_term_wins_whoever_says_so() {
        let mut view = LeaderView::default();
        assert!(view.told(BrokerId(1), 9, &word(3, true, &[1, 2, 3])));
        assert!(!view.seen(GROUP, Term(2), Some(BrokerId(2))));
        assert_eq!(state(&view), (3, Some(1), true, 3));
        assert!(view.seen(GROUP, Term(4), None));
        assert_eq!(state(&view), (4, None, false, 0));
        assert!(
            !view.told(BrokerId(1), 10, &word(3, true, &[1])),
            "late news of a past term"
        );
        assert!(view.seen(GROUP, Term(4), Some(BrokerId(2))));
        assert!(view.told(BrokerId(2), 1, &word(4, true, &[2, 3])));
        assert_eq!(state(&view), (4, Some(2), true, 2));
    }

    #[test]
    fn within_a_term_the_leaders_last_word_wins() {
        let mut view = LeaderView::default();
        assert!(view.told(BrokerId(1), 5, &word(3, true, &[1, 2, 3])));
        assert!(
            !view.told(BrokerId(1), 5, &word(3, true, &[1, 2, 3])),
            "twice is no news"
        );
        assert!(
            !view.told(BrokerId(1), 4, &word(3, true, &[1])),
            "an earlier word that came late"
        );
        assert!(!view.seen(GROUP, Term(3), Some(BrokerId(1))));
        assert!(view.told(BrokerId(1), 6, &word(3, false, &[])));
        assert_eq!(state(&view), (3, None, false, 0));
        assert!(
            !view.seen(GROUP, Term(3), Some(BrokerId(1))),
            "a follower does not know yet that it resigned"
        );
    }

    /// A replica that was removed, and doesn't know it, asks for votes in later and later terms, while its group goes on in
    /// its own.
    #[test]
    fn what_a_replica_believed_goes_with_it() {
        let mut view = LeaderView::default();
        view.seen(GROUP, Term(3), Some(BrokerId(1)));
        view.seen(GROUP, Term(5), None);
        assert!(!view.told(BrokerId(1), 7, &word(4, true, &[1])));
        assert_eq!(state(&view), (5, None, false, 0));
        let version = view.version();
        view.unsee(GROUP);
        assert_eq!(state(&view), (4, Some(1), true, 1));
        assert!(view.version() > version);
        view.unsee(GROUP);
        view.unsee(GroupId(1));
        assert_eq!(state(&view), (4, Some(1), true, 1));
    }

    #[test]
    fn a_clone_is_a_snapshot() {
        let mut view = LeaderView::default();
        view.seen(GROUP, Term(1), Some(BrokerId(1)));
        let snapshot = view.clone();
        view.seen(GROUP, Term(2), Some(BrokerId(2)));
        assert_eq!(snapshot.leader(GROUP), Some(BrokerId(1)));
        assert_eq!(view.leader(GROUP), Some(BrokerId(2)));
        assert!(view.version() > snapshot.version());
    }

    #[test]
    fn forgotten_groups_leave_nothing() {
        let mut view = LeaderView::default();
        view.seen(GROUP, Term(1), Some(BrokerId(1)));
        view.forget(GROUP);
        view.forget(GroupId(1));
        assert_eq!(view.leadership(GROUP), None);
        assert!(view.pages.is_empty());
    }
}
