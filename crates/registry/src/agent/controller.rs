//! The controller's side: plans what others wish, and proposes it to the metadata group, which is led here.

use super::{Agent, Effect, Message, Purpose};
use crate::catalog::{Catalog, Change, Command, Outcome, RequestId, Wish};
use crate::{BrokerId, CatalogError, CommandIndex, Instant, Term, limits};
use core::time::Duration;
use std::collections::BTreeMap;

/// Commands that are proposed and not yet applied, at most; a caller that asks for more asks again. One commit takes
/// about a millisecond.
const IN_FLIGHT: usize = 1_024;

/// What a controller has begun in its term.
#[derive(Debug)]
pub(super) struct Controller {
    term: Term,
    /// The catalog as it will be when all that is in flight is applied: what comes next is planned on it, so that
    /// requests need not wait for one another and still see each other's names and load.
    ahead: Option<Catalog>,
    in_flight: BTreeMap<RequestId, Instant>,
}

impl Controller {
    fn new(term: Term) -> Controller {
        Controller {
            term,
            ahead: None,
            in_flight: BTreeMap::new(),
        }
    }

    pub(super) fn is_waiting(&self) -> bool {
        !self.in_flight.is_empty()
    }

    pub(super) fn applied(&mut self, request: RequestId, outcome: &Outcome) {
        self.in_flight.remove(&request);
        if self.in_flight.is_empty() {
            self.ahead = None;
        }
        if *outcome == Outcome::Baseless {
            self.look_back();
        }
    }

    /// What was predicted has not come true: nothing more is planned on it.
    fn look_back(&mut self) {
        self.in_flight.clear();
        self.ahead = None;
    }

    /// A proposal may have been refused: what isn't applied by now is no longer counted on. Its asker asks again.
    pub(super) fn expire(&mut self, now: Instant, patience: Duration) {
        if self.in_flight.values().any(|proposed| now.since(*proposed) >= patience) {
            self.look_back();
        }
    }
}

impl Agent {
    /// The metadata group's leadership came here, or went.
    pub(super) fn control(&mut self, term: Term, serving: bool) {
        let was = self.controlling.as_ref().map(|controller| controller.term);
        match (serving, was) {
            (true, Some(known)) if known == term => {}
            (true, _) => {
                self.controlling = Some(Controller::new(term));
                if self.catalog.cluster_id().is_none() {
                    // If too many requests are open, the next controller founds the cluster.
                    let wish = Wish::FoundCluster(self.config.cluster_id.clone());
                    let _ = self.requests.open(wish, Purpose::Internal, None);
                }
                self.requests.hurry();
            }
            (false, _) => self.controlling = None,
        }
    }

    /// Someone (perhaps this broker itself) takes this broker for the controller.
    pub(super) fn forwarded(&mut self, now: Instant, asked: (RequestId, u64), wish: &Wish, effects: &mut Vec<Effect>) {
        let (request, settled) = asked;
        let Some(controller) = &mut self.controlling else {
            let controller = self.controller();
            return effects.push(Effect::Send(
                request.broker,
                Message::Elsewhere { request, controller }.encode(),
            ));
        };
        let base = controller.ahead.as_ref().unwrap_or(&self.catalog);
        if controller.in_flight.len() >= IN_FLIGHT || !base.is_new(request) {
            return; // it is asked again, or it is under way: the asker sees the result in its own catalog
        }
        let change = match base.plan(wish, &self.down) {
            Ok(change) => change,
            // Only what is in flight says this against it, and that may be lost: it is asked again, and refused once
            // that is applied.
            Err(error) if self.catalog.plan(wish, &self.down).err().as_ref() != Some(&error) => return,
            Err(error) if is_about_what_there_is(&error) => Change::Refuse(error),
            Err(error) if request.broker == self.id() => return self.refused(now, request, error, effects),
            Err(error) => {
                return effects.push(Effect::Send(
                    request.broker,
                    Message::Refused { request, error }.encode(),
                ));
            }
        };
        let command = Command {
            request,
            settled,
            change,
        };
        let bytes = command.encode();
        debug_assert!(
            bytes.len() <= limits::MESSAGE_BYTES,
            "no plan makes a command that can't be read"
        );
        let mut ahead = base.clone();
        ahead.apply(CommandIndex(ahead.applied().0 + 1), &command);
        controller.ahead = Some(ahead);
        controller.in_flight.insert(request, now);
        effects.push(Effect::Propose(bytes));
    }

    /// Whether news of the metadata group means that requests should go elsewhere now.
    pub(super) fn controller_changed(&mut self, before: Option<BrokerId>) {
        let now = self.controller();
        if now.is_some() && now != before {
            self.requests.hurry();
        }
    }
}

/// Whether a client may know better: another broker may have told it of a topic that this one has not heard of, or that
/// one is gone. Such a refusal is proposed as a change would be, so that a deposed controller's comes to nothing.
fn is_about_what_there_is(error: &CatalogError) -> bool {
    matches!(
        error,
        CatalogError::TopicExists | CatalogError::UnknownTopic | CatalogError::InvalidPartitions { .. }
    )
}
