//! The coordinators of consumer groups: one for each replica of `__consumer_offsets` that this broker has.
//!
//! Which group belongs to which partition is a function of its id and the number of partitions ([`topic::partition_of`]). A
//! partition's replicas each have a [`trimaran_coordinator::Coordinator`], which replays what is committed; the one
//! whose broker leads the partition takes requests, and appends what they change. [`supervise`] starts and ends a task
//! for each, and tells it whether this broker leads. Handlers ask [`mailboxes::Coordinators::ask`].

mod actor;
mod copy;
mod log;
pub(crate) mod mailboxes;
pub(crate) mod topic;

use crate::engine::{ClusterView, Engine};
use crate::ids;
use actor::{Actor, Leading};
use mailboxes::MAILBOX_REQUESTS;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};
use trimaran_coordinator::Request;
use trimaran_coordinator::request::DeleteTopic;
use trimaran_raft::GroupId;
use trimaran_registry::Catalog;

/// Keeps a coordinator for each replica of `__consumer_offsets` that the catalog gives this broker, until the broker's
/// clients are to leave.
pub(crate) async fn supervise(engine: Engine) {
    let mut supervisor = Supervisor {
        hosted: BTreeMap::new(),
        catalog: Catalog::default(),
        leaders: 0,
        engine: engine.clone(),
    };
    let mut views = engine.views();
    loop {
        let view = Arc::clone(&views.borrow_and_update());
        supervisor.follow(&view);
        tokio::select! {
            changed = views.changed() => if changed.is_err() { break },
            () = engine.stopping() => break,
        }
    }
    engine.coordinators().all().clear();
}

struct Supervisor {
    engine: Engine,
    hosted: BTreeMap<GroupId, watch::Sender<Leading>>,
    /// As of the view that was looked at last.
    catalog: Catalog,
    /// The version of its leaders.
    leaders: u64,
}

impl Supervisor {
    fn follow(&mut self, view: &ClusterView) {
        let is_new = view.catalog.applied() != self.catalog.applied();
        if is_new {
            self.start_and_end(&view.catalog);
        }
        if is_new || view.leaders.version() != self.leaders {
            for (group, leading) in &self.hosted {
                let now = self.leading(view, *group);
                leading.send_if_modified(|told| std::mem::replace(told, now) != now);
            }
        }
        if is_new {
            self.forget_deleted_topics(&view.catalog);
            self.catalog = view.catalog.clone();
        }
        self.leaders = view.leaders.version();
    }

    /// Whether this broker leads a group, as far as it knows itself.
    fn leading(&self, view: &ClusterView, group: GroupId) -> Leading {
        let leadership = view.leaders.leadership(ids::catalog_group(group));
        let own = leadership.filter(|found| found.serving && found.leader == Some(self.engine.broker_id()));
        own.map_or(Leading::No, |found| Leading::Since(found.term))
    }

    fn start_and_end(&mut self, catalog: &Catalog) {
        let partitions = catalog.topic(topic::NAME).map_or(&[][..], |topic| &topic.partitions);
        let here = partitions
            .iter()
            .filter(|partition| partition.is_on(self.engine.broker_id()));
        let groups: Vec<GroupId> = here.map(|partition| ids::group(partition.group)).collect();
        // A task ends when its mailbox is gone.
        self.hosted.retain(|group, _| groups.contains(group));
        let mut mailboxes = self.engine.coordinators().all();
        mailboxes.retain(|group, _| groups.contains(group));
        for group in groups {
            self.hosted.entry(group).or_insert_with(|| {
                let (leading, told) = watch::channel(Leading::No);
                let (mailbox, calls) = mpsc::channel(MAILBOX_REQUESTS);
                mailboxes.insert(group, mailbox);
                tokio::spawn(Actor::new(self.engine.clone(), group, told, calls).run());
                leading
            });
        }
    }

    /// A topic's committed offsets go with it: one that is created under its name later begins without.
    fn forget_deleted_topics(&self, catalog: &Catalog) {
        let is_led = self.hosted.values().any(|leading| *leading.borrow() != Leading::No);
        if !is_led {
            return;
        }
        for topic in deleted(&self.catalog, catalog) {
            for (group, leading) in &self.hosted {
                if *leading.borrow() != Leading::No {
                    let (engine, group) = (self.engine.clone(), *group);
                    let request = Request::DeleteTopic(DeleteTopic { topic: topic.clone() });
                    tokio::spawn(async move {
                        if let Err(error) = engine.coordinators().ask(group, request).await {
                            tracing::debug!(%group, %error, "a deleted topic's committed offsets are kept until they expire");
                        }
                    });
                }
            }
        }
    }
}

/// The names of the topics that are gone, or are other topics now.
fn deleted(before: &Catalog, now: &Catalog) -> Vec<String> {
    let mut now = now.topics().peekable();
    let mut deleted = Vec::new();
    // Both are sorted by name.
    for topic in before.topics() {
        while now.next_if(|other| other.name < topic.name).is_some() {}
        if now.next_if(|other| other.id == topic.id).is_none() {
            deleted.push(topic.name.to_string());
        }
    }
    deleted
}
