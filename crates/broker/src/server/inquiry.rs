//! Before a broker opens its journal: it asks the others what they have seen of it, and answers those that start beside it.
//! See [`trimaran_registry::starts`].

use super::StartError;
use crate::clock::{Clock, wall_clock_ms};
use crate::config::Settings;
use crate::folder::Folder;
use crate::ids;
use crate::starts::{self, StartStore};
use bytes::Bytes;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use trimaran_registry::BrokerId;
use trimaran_registry::starts::{Account, GRACE, Inquiry, InquiryConfig, Outcome, PATIENCE, Start};
use trimaran_transport::{Admission, PeerId, PeerLimits, PeerService, Statistics, ask, serve_peers};
use trimaran_wire::peer::{self as wire, Handshake};

/// How long one question may take. A peer that needs longer is asked again.
const ANSWERS_WITHIN: Duration = Duration::from_millis(500);

/// An account is far shorter.
const MAX_ANSWER_BYTES: usize = 4 << 10;

/// Between two looks at what is to be done, if nothing happens.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// After this time the log says whom the start waits for.
const SAY_AFTER: Duration = Duration::from_secs(1);

/// Finds out the number of this start, and whether the folder can be relied on.
///
/// # Errors
/// [`StartError::System`]: the system has no socket to give.
pub(super) async fn inquire(
    settings: &Settings,
    folder: &Folder,
    store: &StartStore,
    listener: &TcpListener,
) -> Result<Outcome, StartError> {
    let own = BrokerId(i32::try_from(settings.broker.id).unwrap_or(i32::MAX));
    let addresses: Vec<(BrokerId, String)> = settings
        .cluster
        .voters
        .iter()
        .map(|voter| {
            (
                BrokerId(i32::try_from(voter.id).unwrap_or(i32::MAX)),
                voter.address.clone(),
            )
        })
        .collect();
    let others: Vec<BrokerId> = addresses.iter().map(|(id, _)| *id).filter(|id| *id != own).collect();
    let told = store.latest(own).map_or(folder.known(), |start| start.incarnation);
    let config = InquiryConfig {
        broker: own,
        others: others.clone(),
        last: folder.last(),
        known: told.max(folder.known()),
        patience: PATIENCE,
        grace: GRACE,
        wall_clock_ms: u64::try_from(wall_clock_ms()).unwrap_or(0),
    };
    let clock = Clock::start();
    let now = || ids::registry_instant(clock.now());
    let began = now();
    let mut inquiry = Inquiry::new(config, began);
    if let Some(outcome) = inquiry.outcome(now()) {
        return Ok(outcome);
    }
    let answering = answer_others(settings, store, listener).map_err(StartError::System)?;
    let question = wire::Inquiry {
        cluster_id: settings.cluster.id.clone(),
        broker: wire::BrokerId(own.0),
        last: starts::to_wire(folder.last()),
    };
    let (answers, mut answered) = mpsc::unbounded_channel();
    let mut asking = JoinSet::new();
    let mut put = |to: BrokerId| {
        let address = addresses.iter().find(|(id, _)| *id == to);
        if let Some((_, address)) = address {
            asking.spawn(put_to(to, address.clone(), question.clone(), answers.clone()));
        }
    };
    // A process that listens at this broker's own address and is not this one. Nobody waits for it longer than for an answer.
    put(own);
    let mut own_asked = addresses.iter().any(|(id, _)| *id == own);
    let mut said = false;
    let outcome = loop {
        for to in inquiry.ask(now()) {
            put(to);
        }
        if let Ok(Some((from, account))) = tokio::time::timeout(LOOK_EVERY, answered.recv()).await {
            own_asked &= from != own;
            if let Some(account) = account {
                inquiry.answered(now(), from, account);
            }
        }
        if let Some(outcome) = inquiry.outcome(now()).filter(|_| !own_asked) {
            break outcome;
        }
        if !said && now().since(began) >= SAY_AFTER {
            said = true;
            say_whom_it_waits_for(&inquiry);
        }
    };
    drop(asking);
    drop(answering);
    Ok(outcome)
}

fn say_whom_it_waits_for(inquiry: &Inquiry) {
    let waits_for: Vec<String> = inquiry.waits_for().into_iter().map(ids::broker_name).collect();
    if !waits_for.is_empty() {
        tracing::info!(
            waits_for = waits_for.join(", "),
            "asks the other brokers what they have seen of this one, before it opens its journal"
        );
    }
}

/// What one broker says, or nothing.
async fn put_to(
    to: BrokerId,
    address: String,
    question: wire::Inquiry,
    answers: mpsc::UnboundedSender<(BrokerId, Option<Account>)>,
) {
    let cluster_id = question.cluster_id.clone();
    let question = Handshake::Inquiry(question).encode();
    let answer = ask(&address, question, MAX_ANSWER_BYTES, ANSWERS_WITHIN).await;
    let account = match answer.map(|answer| Handshake::decode(&answer)) {
        Ok(Ok(Handshake::Account(account))) if account.cluster_id == cluster_id && account.broker.0 == to.0 => {
            Some(Account {
                seen: account.seen.map(starts::from_wire),
                alive: account.alive.map(starts::from_wire),
            })
        }
        // The links' handshake says what is wrong with a peer that can't be used.
        Ok(_) => None,
        Err(error) => {
            tracing::debug!(broker = %to, address, %error, "does not answer");
            None
        }
    };
    // It has been decided without this answer.
    let _ = answers.send((to, account));
}

/// Answers other brokers that start, until what is returned is dropped.
fn answer_others(settings: &Settings, store: &StartStore, listener: &TcpListener) -> std::io::Result<Answering> {
    let listener = listener.try_clone()?;
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let desk = Arc::new(Starting {
        cluster_id: settings.cluster.id.clone(),
        broker: BrokerId(i32::try_from(settings.broker.id).unwrap_or(i32::MAX)),
        store: store.clone(),
    });
    let (stop, stopped) = oneshot::channel::<()>();
    let statistics = Arc::new(Statistics::default());
    let served = serve_peers(listener, desk, PeerLimits::default(), statistics, async {
        // An error means that it was dropped, which is how it is told to end.
        let _ = stopped.await;
    });
    tokio::spawn(served);
    Ok(Answering { _stop: stop })
}

struct Answering {
    _stop: oneshot::Sender<()>,
}

/// Takes no frames yet, and answers what is asked.
struct Starting {
    cluster_id: String,
    broker: BrokerId,
    store: StartStore,
}

impl PeerService for Starting {
    fn admit(&self, _: SocketAddr, hello: Bytes) -> Admission {
        match Handshake::decode(&hello) {
            Ok(Handshake::Inquiry(inquiry)) if inquiry.cluster_id == self.cluster_id => {
                let asker = BrokerId(inquiry.broker.0);
                let account = if asker == self.broker {
                    Account::default()
                } else {
                    self.store.account_for(asker)
                };
                Admission::Answered(account_frame(&self.cluster_id, self.broker, &account))
            }
            // It tries again.
            _ => Admission::Answered(Vec::new()),
        }
    }

    fn frame(&self, _: PeerId, _: Bytes) {}
}

/// The answer to an inquiry.
pub(crate) fn account_frame(cluster_id: &str, broker: BrokerId, account: &Account) -> Vec<Bytes> {
    let account = wire::Account {
        cluster_id: cluster_id.to_owned(),
        broker: wire::BrokerId(broker.0),
        seen: account.seen.map(starts::to_wire),
        alive: account.alive.map(starts::to_wire),
    };
    Handshake::Account(account).encode()
}

/// Says that the folder is lost, and why.
pub(super) fn say_lost(settings: &Settings, last: Start, by: BrokerId, seen: Start) {
    tracing::error!(
        data = %settings.broker.data.display(),
        last = %last, seen = %seen, seen_by = ids::broker_name(by),
        "the data folder is older than what this broker has promised since: it is a former folder of this broker, or an old \
         copy. Nothing in it is relied on: its journal is set aside in `journal.former`, and the other brokers fill this one \
         again. See \"Former data folders\" in docs/operations.md"
    );
}
