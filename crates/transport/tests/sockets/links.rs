//! Links between peers: handshakes, reconnects, refusals, queues that drop.

use crate::support::{Client, count, framed, in_time, own_address, until};
use bytes::Bytes;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use trimaran_transport::{
    Admission, Handshake, LinkEvent, LinkLimits, LinkStatistics, PeerId, PeerLimits, PeerLinks, PeerService,
    Statistics, ask, serve_peers,
};

const ME: PeerId = PeerId(1);
const PEER: PeerId = PeerId(2);

/// Longer than any test: what comes in spite of it came without a pause.
const NEVER: Duration = Duration::from_secs(3600);

/// Lets in every peer that says `I am N`, and writes down what it gets.
#[derive(Default)]
pub(crate) struct Room {
    frames: Mutex<Vec<(PeerId, Bytes)>>,
    /// `+` and `-` with the peer.
    visits: Mutex<Vec<(char, PeerId)>>,
}

impl Room {
    pub(crate) fn frames(&self) -> Vec<(PeerId, Bytes)> {
        self.frames.lock().unwrap().clone()
    }

    fn visits(&self) -> Vec<(char, PeerId)> {
        self.visits.lock().unwrap().clone()
    }
}

impl PeerService for Room {
    fn admit(&self, _: SocketAddr, hello: Bytes) -> Admission {
        let text = String::from_utf8_lossy(&hello).into_owned();
        if text == "question" {
            return Admission::Answered(vec![Bytes::from_static(b"answer")]);
        }
        match text.strip_prefix("I am ").and_then(|id| id.parse().ok()) {
            Some(id) => Admission::Welcome(
                PeerId(id),
                vec![Bytes::from_static(b"welcome "), Bytes::from_static(b"in")],
            ),
            None => Admission::Rejected {
                answer: vec![Bytes::from_static(b"who?")],
                reason: format!("{text:?}"),
            },
        }
    }

    fn frame(&self, from: PeerId, frame: Bytes) {
        self.frames.lock().unwrap().push((from, frame));
    }

    fn arrived(&self, peer: PeerId) {
        self.visits.lock().unwrap().push(('+', peer));
    }

    fn left(&self, peer: PeerId) {
        self.visits.lock().unwrap().push(('-', peer));
    }
}

/// The accepting side.
pub(crate) struct Peers {
    pub(crate) service: Arc<Room>,
    pub(crate) statistics: Arc<Statistics>,
    pub(crate) address: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Peers {
    pub(crate) async fn start(limits: PeerLimits) -> Peers {
        Peers::start_at(own_address(), limits).await
    }

    async fn start_at(address: SocketAddr, limits: PeerLimits) -> Peers {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let service = Arc::<Room>::default();
        let statistics = Arc::<Statistics>::default();
        let (stop, stopped) = oneshot::channel();
        let shutdown = async move { drop(stopped.await) };
        let task = tokio::spawn(serve_peers(
            listener,
            service.clone(),
            limits,
            statistics.clone(),
            shutdown,
        ));
        Peers {
            service,
            statistics,
            address,
            stop,
            task,
        }
    }

    async fn stop(self) {
        drop(self.stop);
        in_time("the end of the peers' listener", self.task).await.unwrap();
    }
}

/// Says who it is, and wants to be welcome.
pub(crate) struct Polite(pub(crate) String);

impl Handshake for Polite {
    fn hello(&self, _: PeerId) -> Vec<Bytes> {
        vec![Bytes::from(self.0.clone())]
    }

    fn check_welcome(&self, _: PeerId, welcome: Bytes) -> Result<(), String> {
        if welcome == "welcome in" {
            Ok(())
        } else {
            Err(format!("{welcome:?}"))
        }
    }
}

/// The connecting side, with its events.
struct Outgoing {
    links: PeerLinks,
    events: UnboundedReceiver<LinkEvent>,
}

impl Outgoing {
    fn new(limits: LinkLimits) -> Outgoing {
        Outgoing::saying(&format!("I am {}", ME.0), limits)
    }

    fn saying(hello: &str, limits: LinkLimits) -> Outgoing {
        let (sender, events) = unbounded_channel();
        let events_to = move |event| drop(sender.send(event));
        let links = PeerLinks::new(Arc::new(Polite(hello.to_owned())), limits, 42, events_to);
        Outgoing { links, events }
    }

    fn to(address: SocketAddr, limits: LinkLimits) -> Outgoing {
        let outgoing = Outgoing::new(limits);
        outgoing.links.set_peer(PEER, &address.to_string());
        outgoing
    }

    async fn event(&mut self) -> LinkEvent {
        in_time("an event", self.events.recv()).await.expect("the links live")
    }

    async fn connected(&mut self) {
        assert_eq!(self.event().await, LinkEvent::Connected(PEER));
    }

    async fn closed(&mut self) -> String {
        match self.event().await {
            LinkEvent::Closed(PEER, reason) => reason,
            other => panic!("{other:?}"),
        }
    }

    fn send(&self, text: &str) -> bool {
        self.links.send(PEER, vec![Bytes::from(text.to_owned())])
    }

    fn statistics(&self) -> Arc<LinkStatistics> {
        self.links.statistics()[0].1.clone()
    }
}

fn impatient() -> LinkLimits {
    LinkLimits {
        backoff_min: Duration::from_millis(1),
        backoff_max: Duration::from_millis(4),
        ..LinkLimits::default()
    }
}

/// No second attempt, but for those without a pause.
fn patient() -> LinkLimits {
    LinkLimits {
        backoff_min: NEVER,
        backoff_max: NEVER,
        ..LinkLimits::default()
    }
}

/// A port on which nobody listens (for now).
async fn free_address() -> SocketAddr {
    TcpListener::bind(own_address()).await.unwrap().local_addr().unwrap()
}

/// Takes one connection by hand, and welcomes it.
async fn welcome(listener: &TcpListener) -> Client {
    let (stream, _) = in_time("a connection", listener.accept()).await.unwrap();
    let mut client = Client(stream);
    assert_eq!(client.receive().await, "I am 1");
    client.0.write_all(&framed(b"welcome in")).await.unwrap();
    client
}

#[tokio::test]
async fn frames_arrive_in_order_with_their_senders_name() {
    let peers = Peers::start(PeerLimits::default()).await;
    let mut outgoing = Outgoing::to(peers.address, impatient());
    assert!(outgoing.send("sent while connecting"));
    outgoing.connected().await;
    assert!(outgoing.links.is_connected(PEER));
    let large = "x".repeat(3_000_000);
    for text in ["a", &large, "", "b"] {
        assert!(outgoing.send(text));
    }
    until("all have arrived", || peers.service.frames().len() == 4).await;
    let expected = ["sent while connecting", "a", &large, "b"].map(|text| (ME, Bytes::from(text.to_owned())));
    assert!(peers.service.frames() == expected);
    assert_eq!(peers.service.visits(), [('+', ME)]);
}

#[tokio::test]
async fn a_peer_that_is_not_let_in_hears_of_it() {
    let peers = Peers::start(PeerLimits::default()).await;
    let mut outgoing = Outgoing::saying("nobody", impatient());
    outgoing.links.set_peer(PEER, &peers.address.to_string());
    assert_eq!(
        outgoing.event().await,
        LinkEvent::HandshakeRejected(PEER, "b\"who?\"".to_owned())
    );
    assert!(!outgoing.links.is_connected(PEER));
    assert!(peers.service.visits().is_empty());
    until("it is counted", || count(&peers.statistics.closed.not_admitted) >= 1).await;
}

#[tokio::test]
async fn a_process_that_is_gone_is_refused_at_once_and_found_when_it_is_back() {
    let peers = Peers::start(PeerLimits::default()).await;
    let address = peers.address;
    let mut outgoing = Outgoing::to(address, impatient());
    outgoing.connected().await;
    peers.stop().await;
    outgoing.closed().await;
    assert_eq!(outgoing.event().await, LinkEvent::Refused(PEER));
    assert!(!outgoing.send("to nobody"), "what would be old news is not kept");
    let peers = Peers::start_at(address, PeerLimits::default()).await;
    loop {
        match outgoing.event().await {
            LinkEvent::Refused(PEER) => {}
            other => break assert_eq!(other, LinkEvent::Connected(PEER)),
        }
    }
    assert!(outgoing.send("hello again"));
    until("it has arrived", || peers.service.frames().len() == 1).await;
}

#[tokio::test]
async fn a_peer_that_was_never_there_is_no_evidence() {
    let address = free_address().await;
    let mut outgoing = Outgoing::to(address, impatient());
    until("it was tried", || count(&outgoing.statistics().failed_attempts) >= 3).await;
    let _peers = Peers::start_at(address, PeerLimits::default()).await;
    outgoing.connected().await;
}

#[tokio::test]
async fn a_peer_that_is_not_there_for_long_is_reported() {
    let address = free_address().await;
    let mut outgoing = Outgoing::to(address, impatient());
    match outgoing.event().await {
        LinkEvent::Unreachable {
            peer: PEER,
            address: where_it_was_looked_for,
            reason,
            since,
        } => {
            assert_eq!(where_it_was_looked_for, address.to_string());
            assert_eq!(reason, "refused");
            assert!(since >= Duration::from_secs(3), "{since:?}");
        }
        other => panic!("{other:?}"),
    }
    let attempts = count(&outgoing.statistics().failed_attempts);
    assert!(attempts > 1, "{attempts}");
    let _peers = Peers::start_at(address, PeerLimits::default()).await;
    outgoing.connected().await;
}

#[tokio::test]
async fn a_closed_connection_is_made_anew_without_a_pause() {
    let listener = TcpListener::bind(own_address()).await.unwrap();
    let mut outgoing = Outgoing::to(listener.local_addr().unwrap(), patient());
    for _ in 0..3 {
        let connection = welcome(&listener).await;
        outgoing.connected().await;
        drop(connection);
        outgoing.closed().await;
    }
    let _connection = welcome(&listener).await;
    outgoing.connected().await;
}

/// Two processes that take each other's connections away.
#[tokio::test]
async fn connections_that_are_lost_again_and_again_are_made_at_growing_intervals() {
    let listener = TcpListener::bind(own_address()).await.unwrap();
    let outgoing = Outgoing::to(listener.local_addr().unwrap(), LinkLimits::default());
    let until = tokio::time::Instant::now() + Duration::from_secs(1);
    while tokio::time::timeout_at(until, async { drop(welcome(&listener).await) })
        .await
        .is_ok()
    {}
    let connects = count(&outgoing.statistics().connects);
    // Four at once, then after 10 to 20 ms, 20 to 40 ms, and so on.
    assert!((5..=12).contains(&connects), "{connects} in a second");
}

#[tokio::test]
async fn a_question_is_answered_on_a_connection_of_its_own() {
    let peers = Peers::start(PeerLimits::default()).await;
    let question = vec![Bytes::from_static(b"question")];
    let answer = ask(
        &peers.address.to_string(),
        question.clone(),
        100,
        Duration::from_secs(10),
    )
    .await;
    assert_eq!(answer.unwrap(), "answer");
    let long = ask(&peers.address.to_string(), question.clone(), 5, Duration::from_secs(10)).await;
    assert_eq!(long.unwrap_err().kind(), std::io::ErrorKind::InvalidData);
    let nobody = free_address().await.to_string();
    let refused = ask(&nobody, question, 100, Duration::from_secs(10)).await;
    assert_eq!(refused.unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn a_dying_process_is_refused_though_its_listener_dies_last() {
    let listener = TcpListener::bind(own_address()).await.unwrap();
    let mut outgoing = Outgoing::to(listener.local_addr().unwrap(), patient());
    let connection = welcome(&listener).await;
    outgoing.connected().await;
    drop(connection);
    outgoing.closed().await;
    // Already connected once more, but nobody will ever answer.
    let (next, _) = in_time("the next attempt", listener.accept()).await.unwrap();
    drop(listener);
    drop(next);
    assert_eq!(outgoing.event().await, LinkEvent::Refused(PEER));
}

#[tokio::test]
async fn a_pause_ends_when_the_peer_is_heard_of() {
    let address = free_address().await;
    let mut outgoing = Outgoing::to(address, patient());
    until("the first attempt failed", || {
        count(&outgoing.statistics().failed_attempts) == 1
    })
    .await;
    let _peers = Peers::start_at(address, PeerLimits::default()).await;
    let connecting = async {
        loop {
            outgoing.links.wake(PEER);
            tokio::select! {
                event = outgoing.events.recv() => break event,
                () = tokio::time::sleep(Duration::from_millis(1)) => {}
            }
        }
    };
    assert_eq!(
        in_time("the connection", connecting).await,
        Some(LinkEvent::Connected(PEER))
    );
}

#[tokio::test]
async fn a_peer_that_reads_nothing_makes_its_queue_drop_and_not_grow() {
    let listener = TcpListener::bind(own_address()).await.unwrap();
    let limits = LinkLimits {
        queue_bytes: 1_000_000,
        queue_frames: 50,
        ..impatient()
    };
    let mut outgoing = Outgoing::to(listener.local_addr().unwrap(), limits);
    let mut connection = welcome(&listener).await;
    outgoing.connected().await;
    let statistics = outgoing.statistics();
    let mut sent = 0u32;
    until("frames are dropped", || {
        // One at a time, so that the link keeps up until the peer's kernel doesn't.
        let frame = [&sent.to_be_bytes()[..], &[0; 100_000]].concat();
        assert!(outgoing.links.send(PEER, vec![Bytes::from(frame)]));
        sent += 1;
        assert!(count(&statistics.queued_bytes) <= 1_000_000);
        count(&statistics.dropped_frames) >= 20
    })
    .await;
    // Now it reads: what it gets is in order, with a gap, and ends with the newest.
    let mut last = None;
    while last != Some(sent - 1) {
        let frame = connection.receive_bytes().await;
        if frame.is_empty() {
            continue;
        }
        let number = u32::from_be_bytes(*frame.first_chunk().unwrap());
        assert!(last < Some(number));
        last = Some(number);
    }
}

#[tokio::test]
async fn a_frame_longer_than_peers_accept_is_dropped_alone() {
    let peers = Peers::start(PeerLimits::default()).await;
    let mut outgoing = Outgoing::to(
        peers.address,
        LinkLimits {
            max_frame_bytes: 100,
            ..impatient()
        },
    );
    outgoing.connected().await;
    assert!(!outgoing.send(&"x".repeat(101)));
    assert!(outgoing.send("y"));
    until("the other has arrived", || peers.service.frames().len() == 1).await;
    assert_eq!(count(&outgoing.statistics().dropped_frames), 1);
}

#[tokio::test]
async fn a_peer_that_never_welcomes_is_given_up_and_tried_again() {
    let listener = TcpListener::bind(own_address()).await.unwrap();
    let limits = LinkLimits {
        handshake_timeout: Duration::from_millis(20),
        ..impatient()
    };
    let mut outgoing = Outgoing::to(listener.local_addr().unwrap(), limits);
    let (silent, _) = in_time("the first attempt", listener.accept()).await.unwrap();
    until("it is given up", || count(&outgoing.statistics().failed_attempts) >= 1).await;
    drop(silent);
    let serving = async {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let mut client = Client(stream);
            // Attempts that were given up in the meantime have only their hello left.
            client.receive().await;
            let _ = client.0.write_all(&framed(b"welcome in")).await;
            if outgoing.links.is_connected(PEER) {
                break;
            }
            until("it is connected, or has given up", || {
                outgoing.links.is_connected(PEER) || client.0.try_read(&mut [0]).is_ok()
            })
            .await;
            if outgoing.links.is_connected(PEER) {
                break;
            }
        }
    };
    in_time("a connection", serving).await;
    outgoing.connected().await;
}

#[tokio::test]
async fn a_peer_without_a_sign_of_life_is_left() {
    let listener = TcpListener::bind(own_address()).await.unwrap();
    let limits = LinkLimits {
        probe_interval: Duration::from_millis(10),
        ..impatient()
    };
    let mut outgoing = Outgoing::to(listener.local_addr().unwrap(), limits);
    let _silent = welcome(&listener).await;
    outgoing.connected().await;
    assert!(outgoing.closed().await.contains("no sign of life"));
}

#[tokio::test]
async fn a_peer_that_answers_probes_is_kept() {
    let peers = Peers::start(PeerLimits::default()).await;
    let limits = LinkLimits {
        probe_interval: Duration::from_millis(100),
        ..impatient()
    };
    let mut outgoing = Outgoing::to(peers.address, limits);
    outgoing.connected().await;
    until("six probes were answered", || count(&peers.statistics.frames_in) >= 6).await;
    assert_eq!(count(&outgoing.statistics().connects), 1);
    assert!(peers.service.frames().is_empty(), "probes are not delivered");
}

#[tokio::test]
async fn a_peer_that_moves_is_followed() {
    let old = Peers::start(PeerLimits::default()).await;
    let new = Peers::start(PeerLimits::default()).await;
    let mut outgoing = Outgoing::to(old.address, patient());
    outgoing.connected().await;
    outgoing.links.set_peer(PEER, &old.address.to_string());
    outgoing.links.set_peer(PEER, &new.address.to_string());
    outgoing.closed().await;
    outgoing.connected().await;
    outgoing.send("here");
    until("it arrived at the new address", || new.service.frames().len() == 1).await;
    until("the old address was left", || {
        old.service.visits() == [('+', ME), ('-', ME)]
    })
    .await;
}

#[tokio::test]
async fn a_pausing_link_follows_at_once() {
    let mut outgoing = Outgoing::to(free_address().await, patient());
    until("the first attempt failed", || {
        count(&outgoing.statistics().failed_attempts) == 1
    })
    .await;
    let peers = Peers::start(PeerLimits::default()).await;
    outgoing.links.set_peer(PEER, &peers.address.to_string());
    outgoing.connected().await;
}

#[tokio::test]
async fn a_peer_that_is_removed_is_left() {
    let peers = Peers::start(PeerLimits::default()).await;
    let mut outgoing = Outgoing::to(peers.address, impatient());
    outgoing.connected().await;
    outgoing.links.remove_peer(PEER);
    until("the peer saw it leave", || {
        peers.service.visits() == [('+', ME), ('-', ME)]
    })
    .await;
    assert!(!outgoing.send("to nobody"));
    assert!(outgoing.links.statistics().is_empty());
}

#[tokio::test]
async fn closing_sends_what_is_queued() {
    let peers = Peers::start(PeerLimits::default()).await;
    let mut outgoing = Outgoing::to(peers.address, impatient());
    outgoing.connected().await;
    for i in 0..1000 {
        assert!(outgoing.send(&i.to_string()));
    }
    in_time("the close", outgoing.links.close(NEVER)).await;
    until("all have arrived", || peers.service.frames().len() == 1000).await;
    assert!(!outgoing.send("too late"));
    outgoing.links.set_peer(PEER, &peers.address.to_string());
    assert!(outgoing.links.statistics().is_empty());
}

#[tokio::test]
async fn closing_does_not_wait_for_ever() {
    let listener = TcpListener::bind(own_address()).await.unwrap();
    let mut outgoing = Outgoing::to(listener.local_addr().unwrap(), impatient());
    let _stuck = welcome(&listener).await;
    outgoing.connected().await;
    for _ in 0..60 {
        outgoing.links.send(PEER, vec![Bytes::from(vec![0; 1_000_000])]);
    }
    in_time("the close", outgoing.links.close(Duration::from_millis(20))).await;
}

#[tokio::test]
async fn a_newer_connection_of_a_peer_replaces_the_older() {
    let peers = Peers::start(PeerLimits::default()).await;
    let mut first = Outgoing::to(peers.address, patient());
    first.connected().await;
    let mut hand = Client(tokio::net::TcpStream::connect(peers.address).await.unwrap());
    hand.send("I am 1").await;
    assert_eq!(hand.receive().await, "welcome in");
    first.closed().await;
    // Which comes back, and replaces its replacement.
    first.connected().await;
    assert!(hand.is_closed().await);
    first.links.remove_peer(PEER);
    until("the last has left", || peers.service.visits().contains(&('-', ME))).await;
    assert_eq!(peers.service.visits(), [('+', ME), ('+', ME), ('+', ME), ('-', ME)]);
}

#[tokio::test]
async fn a_peers_frame_over_the_limit_ends_its_connection() {
    let peers = Peers::start(PeerLimits {
        max_frame_bytes: 1000,
        ..PeerLimits::default()
    })
    .await;
    let mut outgoing = Outgoing::to(peers.address, impatient());
    outgoing.connected().await;
    outgoing.send(&"x".repeat(1001));
    outgoing.closed().await;
    assert_eq!(count(&peers.statistics.closed.oversized), 1);
    outgoing.connected().await;
    outgoing.send("short");
    until("the link works again", || peers.service.frames().len() == 1).await;
}

#[tokio::test]
async fn a_stranger_that_says_nothing_is_not_kept() {
    let limits = PeerLimits {
        handshake_timeout: Duration::from_millis(20),
        ..PeerLimits::default()
    };
    let peers = Peers::start(limits).await;
    let mut silent = Client(tokio::net::TcpStream::connect(peers.address).await.unwrap());
    assert!(silent.is_closed().await);
    assert_eq!(count(&peers.statistics.closed.not_admitted), 1);
}

#[tokio::test]
async fn a_name_that_stands_for_nothing_is_tried_again() {
    let outgoing = Outgoing::new(impatient());
    outgoing.links.set_peer(PEER, "no port");
    until("it was tried again", || {
        count(&outgoing.statistics().failed_attempts) >= 2
    })
    .await;
}
