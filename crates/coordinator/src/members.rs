//! The members of a group, and what they agree on.

use crate::limits::MEMBER_OVERHEAD_BYTES;
use crate::record::{MemberValue, subscribed_topics};
use crate::request::{JoinGroup, Protocol};
use crate::{Error, Ticket};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The request with which a member waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waiting {
    Join(Ticket),
    Sync(Ticket),
}

/// A member.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) id: Arc<str>,
    pub(crate) instance_id: Option<String>,
    pub(crate) client_id: String,
    pub(crate) client_host: String,
    pub(crate) session_timeout_ms: i32,
    pub(crate) rebalance_timeout_ms: i32,
    protocols: Vec<Protocol>,
    /// Whether the member is known from its record only, which holds no protocol but the chosen one.
    loaded: bool,
    pub(crate) assignment: Bytes,
    waiting: Option<Waiting>,
    /// Whether it has not yet been in a generation. Its client may have given up before it knew its id, so that waiting
    /// doesn't keep it alive for ever.
    pub(crate) is_new: bool,
    /// When its session ends, unless it is heard of before.
    pub(crate) session_end_ms: u64,
    /// The deadline that is set: the session's end or an earlier time.
    pub(crate) timer: Option<u64>,
}

impl Member {
    pub(crate) fn new(id: Arc<str>, join: JoinGroup) -> Member {
        Member {
            id,
            instance_id: join.instance_id,
            client_id: join.client_id,
            client_host: join.client_host,
            session_timeout_ms: join.session_timeout_ms,
            rebalance_timeout_ms: join.rebalance_timeout_ms,
            protocols: copied(join.protocols),
            loaded: false,
            assignment: Bytes::new(),
            waiting: None,
            is_new: true,
            session_end_ms: 0,
            timer: None,
        }
    }

    /// A member as its group's record names it.
    pub(crate) fn loaded(value: &MemberValue, protocol: Option<&str>) -> Member {
        let protocols = protocol.map(|name| Protocol {
            name: name.to_owned(),
            metadata: value.subscription.clone(),
        });
        Member {
            id: value.member_id.as_str().into(),
            instance_id: value.instance_id.clone(),
            client_id: value.client_id.clone(),
            client_host: value.client_host.clone(),
            session_timeout_ms: value.session_timeout_ms,
            rebalance_timeout_ms: value.rebalance_timeout_ms,
            protocols: protocols.into_iter().collect(),
            loaded: true,
            assignment: value.assignment.clone(),
            waiting: None,
            is_new: false,
            session_end_ms: 0,
            timer: None,
        }
    }

    pub(crate) fn value(&self, protocol: &str) -> MemberValue {
        MemberValue {
            member_id: self.id.to_string(),
            instance_id: self.instance_id.clone(),
            client_id: self.client_id.clone(),
            client_host: self.client_host.clone(),
            rebalance_timeout_ms: self.rebalance_timeout_ms,
            session_timeout_ms: self.session_timeout_ms,
            subscription: self.metadata(protocol),
            assignment: self.assignment.clone(),
        }
    }

    /// Its metadata for a protocol; empty if it doesn't support it.
    pub(crate) fn metadata(&self, protocol: &str) -> Bytes {
        let protocol = self.protocols.iter().find(|known| known.name == protocol);
        protocol.map(|known| known.metadata.clone()).unwrap_or_default()
    }

    pub(crate) fn waiting(&self) -> Option<Waiting> {
        self.waiting
    }

    pub(crate) fn is_joining(&self) -> bool {
        matches!(self.waiting, Some(Waiting::Join(_)))
    }

    /// Whether these are the protocols that the member has, as far as they are known.
    pub(crate) fn has_protocols(&self, protocols: &[Protocol]) -> bool {
        if self.loaded {
            self.protocols.iter().all(|known| protocols.contains(known))
        } else {
            self.protocols == protocols
        }
    }

    pub(crate) fn session_timeout(&self) -> u64 {
        u64::try_from(self.session_timeout_ms).unwrap_or(0)
    }

    pub(crate) fn rebalance_timeout(&self) -> u64 {
        u64::try_from(self.rebalance_timeout_ms).unwrap_or(0)
    }

    /// The bytes that it counts in its group.
    pub(crate) fn bytes(&self) -> usize {
        let strings = self.id.len() + self.client_id.len() + self.client_host.len();
        let instance_id = self.instance_id.as_deref().map_or(0, str::len);
        MEMBER_OVERHEAD_BYTES + strings + instance_id + protocols_len(&self.protocols)
    }
}

/// Protocols with copies of their metadata: slices would keep the request in memory.
fn copied(mut protocols: Vec<Protocol>) -> Vec<Protocol> {
    for protocol in &mut protocols {
        protocol.metadata = Bytes::copy_from_slice(&protocol.metadata);
    }
    protocols
}

/// The bytes of protocols' names and metadata.
pub(crate) fn protocols_len(protocols: &[Protocol]) -> usize {
    let each = protocols.iter();
    each.map(|protocol| protocol.name.len() + protocol.metadata.len()).sum()
}

/// The members of a group.
#[derive(Debug, Default)]
pub(crate) struct Members {
    by_id: BTreeMap<Arc<str>, Member>,
    by_instance: BTreeMap<String, Arc<str>>,
    /// How many wait to join.
    joining: usize,
    /// How many support each protocol.
    supported: BTreeMap<String, usize>,
    /// The bytes of ids and metadata, for the limit of the group.
    bytes: usize,
}

impl Members {
    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn joining(&self) -> usize {
        self.joining
    }

    pub(crate) fn contains(&self, id: &str) -> bool {
        self.by_id.contains_key(id)
    }

    pub(crate) fn get(&self, id: &str) -> Option<&Member> {
        self.by_id.get(id)
    }

    /// A member to be changed in what is not counted here: neither its protocols nor what it waits for.
    pub(crate) fn get_mut(&mut self, id: &str) -> Option<&mut Member> {
        self.by_id.get_mut(id)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Member> {
        self.by_id.values()
    }

    /// All members, each to be changed as with [`Members::get_mut`].
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Member> {
        self.by_id.values_mut()
    }

    /// The static member with an instance id.
    pub(crate) fn of_instance(&self, instance_id: &str) -> Option<&Arc<str>> {
        self.by_instance.get(instance_id)
    }

    /// Whether a member with this id, and with this instance id if it is static, is the one that is known.
    pub(crate) fn check(&self, id: &str, instance_id: Option<&str>) -> Result<(), Error> {
        if let Some(instance_id) = instance_id {
            match self.of_instance(instance_id) {
                None => return Err(Error::UnknownMemberId),
                Some(known) if **known != *id && !self.is_kept_twin(id, instance_id) => {
                    return Err(Error::FencedInstanceId);
                }
                Some(_) => {}
            }
        }
        if self.contains(id) {
            Ok(())
        } else {
            Err(Error::UnknownMemberId)
        }
    }

    /// Another member with the same instance id: there is none unless the coordinator is broken on purpose.
    fn is_kept_twin(&self, id: &str, instance_id: &str) -> bool {
        self.get(id)
            .is_some_and(|member| member.instance_id.as_deref() == Some(instance_id))
    }

    pub(crate) fn insert(&mut self, member: Member) {
        debug_assert!(!self.contains(&member.id), "members are inserted once");
        self.count(&member, true);
        if let Some(instance_id) = &member.instance_id {
            self.by_instance.insert(instance_id.clone(), member.id.clone());
        }
        self.by_id.insert(member.id.clone(), member);
    }

    pub(crate) fn remove(&mut self, id: &str) -> Option<Member> {
        let member = self.by_id.remove(id)?;
        self.count(&member, false);
        if let Some(instance_id) = &member.instance_id
            && self.by_instance.get(instance_id).is_some_and(|known| **known == *id)
        {
            self.by_instance.remove(instance_id);
        }
        Some(member)
    }

    /// Gives a member the protocols and time-outs with which it joins again.
    pub(crate) fn update(&mut self, id: &str, join: JoinGroup) {
        let mut member = self.remove(id).expect("a member");
        member.protocols = copied(join.protocols);
        member.loaded = false;
        member.session_timeout_ms = join.session_timeout_ms;
        member.rebalance_timeout_ms = join.rebalance_timeout_ms;
        member.client_id = join.client_id;
        member.client_host = join.client_host;
        self.insert(member);
    }

    /// Sets what a member waits for, and returns what it waited for.
    pub(crate) fn wait(&mut self, id: &str, waiting: Option<Waiting>) -> Option<Waiting> {
        let member = self.by_id.get_mut(id)?;
        let before = core::mem::replace(&mut member.waiting, waiting);
        self.joining += usize::from(matches!(waiting, Some(Waiting::Join(_))));
        self.joining -= usize::from(matches!(before, Some(Waiting::Join(_))));
        before
    }

    /// The longest rebalance time-out.
    pub(crate) fn rebalance_timeout(&self) -> u64 {
        self.iter().map(Member::rebalance_timeout).max().unwrap_or(0)
    }

    /// Whether there is a protocol that all members support, and one that joins with these: `except` is the member
    /// that joins again, if it is one.
    pub(crate) fn support(&self, protocols: &[Protocol], except: Option<&str>) -> bool {
        let except = except.and_then(|id| self.get(id));
        let others = self.len() - usize::from(except.is_some());
        protocols.iter().any(|protocol| {
            let all = self.supported.get(&protocol.name).copied().unwrap_or(0);
            let own = except.is_some_and(|member| member.protocols.iter().any(|known| known.name == protocol.name));
            all - usize::from(own) == others
        })
    }

    /// The protocol with the most votes among those that all members support: each member votes for the first one in
    /// its list. The first by name if several have as many votes. None without members.
    pub(crate) fn chosen_protocol(&self) -> Option<String> {
        let all = self.len();
        let candidate = |name: &str| self.supported.get(name) == Some(&all);
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        for member in self.iter() {
            let first = member.protocols.iter().find(|protocol| candidate(&protocol.name));
            if let Some(protocol) = first {
                *votes.entry(&protocol.name).or_default() += 1;
            }
        }
        // Of several equal ones `max_by_key` returns the last.
        let most = votes.into_iter().rev().max_by_key(|(_, count)| *count);
        most.map(|(name, _)| name.to_owned())
    }

    /// The topics to which the members subscribe with a protocol; none if one of the subscriptions can't be read.
    pub(crate) fn subscribed_topics(&self, protocol: &str) -> Option<BTreeSet<String>> {
        let mut topics = BTreeSet::new();
        for member in self.iter() {
            topics.extend(subscribed_topics(&member.metadata(protocol))?);
        }
        Some(topics)
    }

    fn count(&mut self, member: &Member, is_added: bool) {
        let names: BTreeSet<&str> = member.protocols.iter().map(|protocol| protocol.name.as_str()).collect();
        if is_added {
            self.bytes += member.bytes();
            self.joining += usize::from(member.is_joining());
            for name in names {
                *self.supported.entry(name.to_owned()).or_default() += 1;
            }
        } else {
            self.bytes -= member.bytes();
            self.joining -= usize::from(member.is_joining());
            for name in names {
                if let Some(count) = self.supported.get_mut(name) {
                    *count -= 1;
                    if *count == 0 {
                        self.supported.remove(name);
                    }
                }
            }
        }
    }
}
