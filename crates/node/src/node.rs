//! The composition of the two parts.

use crate::config::Config;
use crate::control::Control;
use crate::failure_detector::{Change, FailureDetector};
use crate::ids;
use crate::input::{Health, Input, Now};
use crate::opening::nodes;
use crate::output::Output;
use trimaran_raft::Instant;
use trimaran_registry::agent;

/// One broker, but for its shards, its disk and its connections.
#[derive(Debug)]
pub struct Node {
    detector: FailureDetector,
    control: Control,
}

impl Node {
    /// One that starts now. Its first outputs come with its first tick.
    #[must_use]
    pub fn new(config: Config, now: Instant) -> Node {
        let broker = &config.agent.broker;
        let own = ids::node(broker.id);
        let mut peers = nodes(&config.agent.metadata_replicas);
        peers.retain(|peer| *peer != own);
        Node {
            detector: FailureDetector::new(config.plan, own, broker.incarnation.0, &peers, now),
            control: Control::new(config, now),
        }
    }

    /// The part that must never be late.
    #[must_use]
    pub fn detector(&self) -> &FailureDetector {
        &self.detector
    }

    /// The same, to say how late the host's thread was.
    pub fn detector_mut(&mut self) -> &mut FailureDetector {
        &mut self.detector
    }

    /// The part that applies committed commands.
    #[must_use]
    pub fn control(&self) -> &Control {
        &self.control
    }

    /// The same, for a test that breaks it.
    #[cfg(feature = "sabotage")]
    pub fn control_mut(&mut self) -> &mut Control {
        &mut self.control
    }

    /// Builds a bug into it.
    #[cfg(feature = "sabotage")]
    pub fn sabotage(&mut self, how: crate::Sabotage) {
        self.control.sabotage(how);
    }

    /// When to call [`Node::tick`] next, if nothing else happens.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        self.detector.monitor().deadline().min(self.control.deadline())
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Now, health: Health, out: &mut Vec<Output>) {
        let changes = self.detector.tick(now, health, out);
        self.tell_changes(now, changes, out);
        self.control.tick(now, out);
        self.add_newcomers(now);
    }

    /// Something has happened.
    pub fn handle(&mut self, now: Now, input: Input, out: &mut Vec<Output>) {
        match input {
            Input::Report(report) => self.control.report(now, report, out),
            Input::Opened(opened) => self.control.opened(now, *opened, out),
            Input::Deleted(group) => self.control.deleted(group, out),
            Input::Status(group, status) => self.control.status(group, status.as_ref(), out),
            Input::Heartbeat(from, heartbeat) => {
                let changes = self.detector.heard(now, from, heartbeat, out);
                self.tell_changes(now, changes, out);
            }
            Input::Refused(peer) => {
                let changes = self.detector.refused(now, peer, out);
                self.tell_changes(now, changes, out);
            }
            Input::Newcomer(node) => self.detector.add(now.at, node),
            Input::Agent(from, message) => {
                let from = ids::broker(from);
                let message = &message;
                self.control.step_agent(now, agent::Input::Peer { from, message }, out);
            }
            Input::Request(ticket, timeout, request) => self.control.request(now, ticket, timeout, request, out),
            Input::FailOver { group, failed } => self.control.fail_over(group, failed, out),
            Input::Leaving => self.control.leave(),
        }
        self.add_newcomers(now);
    }

    fn add_newcomers(&mut self, now: Now) {
        for node in self.control.take_newcomers() {
            self.detector.add(now.at, node);
        }
    }

    fn tell_changes(&mut self, now: Now, changes: Vec<Change>, out: &mut Vec<Output>) {
        for change in changes {
            let input = match change {
                Change::Restored(node) => agent::Input::Restored(ids::broker(node)),
                Change::Down(node) => agent::Input::Down(ids::broker(node)),
            };
            self.control.step_agent(now, input, out);
        }
    }

    /// Publishes what has changed since the last time, and gives the answers that go with it. To be called once all
    /// that was waiting has been handed in.
    pub fn publish(&mut self, out: &mut Vec<Output>) {
        let monitor = self.detector.monitor();
        let unreachable = monitor.unreachable().into_iter().map(ids::broker).collect();
        let refusing = monitor.refusing().into_iter().map(ids::broker).collect();
        self.control.publish(unreachable, refusing, out);
    }
}
