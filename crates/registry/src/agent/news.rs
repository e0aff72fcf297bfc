//! Who leads what spreads from broker to broker: every leader tells all others of what changed, numbered, and says
//! every now and then how far its numbers go. Who has missed some asks for them.

use super::{Agent, Effect, Message};
use crate::leaders::Word;
use crate::{BrokerId, GroupId, Incarnation, Instant, METADATA_GROUP, Term, limits};
use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::Arc;

/// News waits this long for more of its kind: when a broker fails, its leaderships fall to others by the thousand.
const GATHER: Duration = Duration::from_millis(2);

/// What this broker has to tell, and what it has been told.
#[derive(Debug)]
pub(super) struct News {
    id: BrokerId,
    incarnation: Incarnation,
    /// The number of this broker's last word.
    number: u64,
    /// Its words that count still, by number.
    words: BTreeMap<u64, Word>,
    /// The number of the last word about each group.
    numbers: BTreeMap<GroupId, u64>,
    /// Replicas in sync of groups led here, which may be known before it is known that they are led here.
    in_sync: BTreeMap<GroupId, (Term, Arc<[BrokerId]>)>,
    /// Words up to here were sent.
    sent: u64,
    /// When to send the others.
    send_at: Option<Instant>,
    /// When to say how far the numbers go.
    digest_at: Instant,
    /// What each source has told.
    sources: BTreeMap<BrokerId, Source>,
}

#[derive(Debug, Default)]
struct Source {
    incarnation: Incarnation,
    /// All its words up to here are known.
    have: u64,
    /// When it was asked for what is missing.
    asked_at: Option<Instant>,
}

impl News {
    pub(super) fn new(id: BrokerId, incarnation: Incarnation, digest_at: Instant) -> News {
        News {
            id,
            incarnation,
            number: 0,
            words: BTreeMap::new(),
            numbers: BTreeMap::new(),
            in_sync: BTreeMap::new(),
            sent: 0,
            send_at: None,
            digest_at,
            sources: BTreeMap::new(),
        }
    }

    pub(super) fn deadline(&self) -> Instant {
        self.send_at.map_or(self.digest_at, |at| at.min(self.digest_at))
    }

    /// Says something about a group; returns the number of it.
    fn say(&mut self, now: Instant, word: Word) -> u64 {
        self.number += 1;
        if let Some(before) = self.numbers.insert(word.group, self.number) {
            self.words.remove(&before);
        }
        self.words.insert(self.number, word);
        self.send_at.get_or_insert(now + GATHER);
        self.number
    }

    fn word(&self, group: GroupId) -> Option<&Word> {
        self.words.get(self.numbers.get(&group)?)
    }

    /// Nothing more is to be said about a group.
    pub(super) fn forget(&mut self, group: GroupId) {
        self.in_sync.remove(&group);
        if let Some(number) = self.numbers.remove(&group) {
            self.words.remove(&number);
        }
    }

    /// Remembers who is in sync; returns whether that is new.
    fn note_in_sync(&mut self, group: GroupId, term: Term, replicas: &[BrokerId]) -> bool {
        let known = self.in_sync.get(&group);
        if known.is_some_and(|(at, replicas_then)| *at > term || (*at == term && **replicas_then == *replicas)) {
            return false;
        }
        self.in_sync.insert(group, (term, replicas.into()));
        true
    }

    fn in_sync(&self, group: GroupId, term: Term) -> Arc<[BrokerId]> {
        match self.in_sync.get(&group) {
            Some((at, replicas)) if *at == term => replicas.clone(),
            _ => Arc::new([self.id]), // a leader is in sync with itself
        }
    }

    /// Words after that number, in messages of limited size.
    fn messages(&self, mut after: u64) -> Vec<Message> {
        let mut messages = Vec::new();
        let mut words = Vec::new();
        for (number, word) in self.words.range(after + 1..) {
            words.push((*number, word.clone()));
            if words.len() == limits::NEWS_PER_MESSAGE {
                messages.push(self.message(after, *number, std::mem::take(&mut words)));
                after = *number;
            }
        }
        if after < self.number {
            messages.push(self.message(after, self.number, words));
        }
        messages
    }

    fn message(&self, after: u64, upto: u64, words: Vec<(u64, Word)>) -> Message {
        Message::News {
            incarnation: self.incarnation,
            after,
            upto,
            words,
        }
    }

    /// Tells a broker how far the numbers go, so that it can ask.
    pub(super) fn digest_to(&self, to: BrokerId, effects: &mut Vec<Effect>) {
        if self.sent > 0 {
            effects.push(Effect::Send(
                to,
                self.message(self.sent, self.sent, Vec::new()).encode(),
            ));
        }
    }

    /// Somebody has missed something.
    pub(super) fn answer(&self, to: BrokerId, incarnation: Incarnation, after: u64, effects: &mut Vec<Effect>) {
        if incarnation == self.incarnation && after < self.number {
            effects.extend(
                self.messages(after)
                    .iter()
                    .map(|message| Effect::Send(to, message.encode())),
            );
        }
    }

    /// What has become of the numbers of a source, with this message of it.
    fn hear(&mut self, now: Instant, from: BrokerId, incarnation: Incarnation, range: (u64, u64)) -> Heard {
        let source = self.sources.entry(from).or_default();
        if incarnation < source.incarnation {
            return Heard::Old;
        }
        if incarnation > source.incarnation {
            *source = Source {
                incarnation,
                ..Source::default()
            };
        }
        let (after, upto) = range;
        if after <= source.have {
            source.have = source.have.max(upto);
            source.asked_at = None;
            return Heard::Next;
        }
        // What it says is worth knowing all the same; what lies before it is asked for, but not with every message.
        let asked = source.asked_at.is_some_and(|at| now.since(at) < 10 * GATHER);
        if !asked {
            source.asked_at = Some(now);
        }
        Heard::Gap {
            have: source.have,
            ask: !asked,
        }
    }
}

enum Heard {
    /// From an earlier start of the source.
    Old,
    /// It continues what is known.
    Next,
    /// Something before it is missing.
    Gap { have: u64, ask: bool },
}

impl Agent {
    /// A replica on this broker sees another term or leader.
    pub(super) fn led(&mut self, now: Instant, group: GroupId, term: Term, leader: Option<BrokerId>, serving: bool) {
        // What is said of a replica that was closed meanwhile is too late.
        if group != METADATA_GROUP && !self.is_open(group) {
            return;
        }
        let before = self.controller();
        let serving = serving && leader == Some(self.id());
        self.leaders.seen(group, term, leader);
        if serving {
            self.say(now, group, term, true);
        } else if self
            .news
            .word(group)
            .is_some_and(|word| word.leads && word.term <= term)
        {
            let term = self.news.word(group).map_or(term, |word| word.term);
            self.say(now, group, term, false);
        }
        if group == METADATA_GROUP {
            self.control(term, serving);
            self.controller_changed(before);
        }
    }

    /// The replica here is closed: what this broker said of leading it holds no longer.
    pub(super) fn resign(&mut self, now: Instant, group: GroupId) {
        if let Some(term) = self.news.word(group).filter(|word| word.leads).map(|word| word.term) {
            self.say(now, group, term, false);
        }
    }

    fn say(&mut self, now: Instant, group: GroupId, term: Term, leads: bool) {
        let in_sync = if leads {
            self.news.in_sync(group, term)
        } else {
            Arc::default()
        };
        let word = Word {
            group,
            term,
            leads,
            in_sync,
        };
        if self.news.word(group) != Some(&word) {
            let number = self.news.say(now, word.clone());
            self.leaders.told(self.id(), number, &word);
        }
    }

    /// This broker leads a group, and these replicas are in sync.
    pub(super) fn in_sync(&mut self, now: Instant, group: GroupId, term: Term, replicas: &[BrokerId]) {
        if self.catalog.is_gone(group) || !self.news.note_in_sync(group, term, replicas) {
            return;
        }
        if self
            .news
            .word(group)
            .is_some_and(|word| word.leads && word.term == term)
        {
            self.say(now, group, term, true);
        }
    }

    /// Another broker tells what it leads.
    pub(super) fn told(
        &mut self,
        now: Instant,
        from: BrokerId,
        incarnation: Incarnation,
        range: (u64, u64),
        words: &[(u64, Word)],
        effects: &mut Vec<Effect>,
    ) {
        match self.news.hear(now, from, incarnation, range) {
            Heard::Old => return,
            Heard::Gap { have, ask: true } => {
                effects.push(Effect::Send(
                    from,
                    Message::Want {
                        incarnation,
                        after: have,
                    }
                    .encode(),
                ));
            }
            Heard::Gap { ask: false, .. } | Heard::Next => {}
        }
        let before = self.controller();
        for (number, word) in words.iter().filter(|(_, word)| !self.catalog.is_gone(word.group)) {
            self.leaders.told(from, *number, word);
            // Once a later leader has spoken, nobody needs to be told that this broker leads no more.
            if self
                .news
                .word(word.group)
                .is_some_and(|own| !own.leads && own.term < word.term)
            {
                self.news.forget(word.group);
            }
        }
        self.controller_changed(before);
    }

    /// Sends what is due.
    pub(super) fn spread(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        if self.news.send_at.is_some_and(|at| at <= now) {
            self.news.send_at = None;
            let messages: Vec<Vec<u8>> = self.news.messages(self.news.sent).iter().map(Message::encode).collect();
            self.news.sent = self.news.number;
            for other in self.others() {
                effects.extend(messages.iter().map(|message| Effect::Send(other, message.clone())));
            }
        }
        if self.news.digest_at <= now {
            self.news.digest_at = now + self.config.digest_every;
            for other in self.others() {
                self.news.digest_to(other, effects);
            }
            self.announce(None, effects);
        }
    }
}
