//! Three monitors and a network that takes a millisecond, told by transcripts in `testdata/liveness`. A line in a
//! transcript is a command; the indented lines below it are what the monitors concluded meanwhile, each with its
//! millisecond. `UPDATE_TRANSCRIPTS=1` writes them again.

use super::*;
use std::fmt::Write as _;

const INTERVAL: Duration = Duration::from_millis(25);
const TIMEOUT: Duration = Duration::from_millis(100);
const WAY: Duration = Duration::from_millis(1);

struct Node {
    monitor: LivenessMonitor,
    incarnation: u64,
    paused: bool,
    down: bool,
}

struct Cluster {
    now: Instant,
    nodes: BTreeMap<NodeId, Node>,
    /// Heartbeats on their way: when they arrive, from whom, to whom.
    flying: Vec<(Instant, NodeId, NodeId, Heartbeat)>,
    /// Ways that lose everything.
    cut: Vec<(NodeId, NodeId)>,
    log: String,
}

impl Cluster {
    fn new() -> Cluster {
        let mut cluster = Cluster {
            now: Instant(1_000_000),
            nodes: BTreeMap::new(),
            flying: Vec::new(),
            cut: Vec::new(),
            log: String::new(),
        };
        (1..=3).for_each(|id| cluster.start(NodeId(id), 1));
        cluster
    }

    fn start(&mut self, id: NodeId, incarnation: u64) {
        let config = LivenessConfig {
            node: id,
            incarnation,
            interval: INTERVAL,
            timeout: TIMEOUT,
        };
        let monitor = LivenessMonitor::new(config, &[NodeId(1), NodeId(2), NodeId(3)], self.now);
        self.nodes.insert(
            id,
            Node {
                monitor,
                incarnation,
                paused: false,
                down: false,
            },
        );
    }

    fn act(&mut self, id: NodeId, act: impl FnOnce(&mut LivenessMonitor, Instant, &mut Vec<LivenessEvent>)) {
        let mut events = Vec::new();
        let node = self.nodes.get_mut(&id).expect("one of three");
        act(&mut node.monitor, self.now, &mut events);
        for event in events {
            self.note(id, event);
        }
    }

    fn note(&mut self, id: NodeId, event: LivenessEvent) {
        let ms = self.now.0 / 1_000 - 1_000;
        let _ = match event {
            LivenessEvent::Send(to, heartbeat) => {
                if !self.cut.contains(&(id, to)) {
                    self.flying.push((self.now + WAY, id, to, heartbeat));
                }
                Ok(())
            }
            LivenessEvent::Changed(peer, Liveness::Alive) => writeln!(self.log, "    {ms}: {id} sees {peer} alive"),
            LivenessEvent::Changed(peer, Liveness::Suspected) => writeln!(self.log, "    {ms}: {id} suspects {peer}"),
            LivenessEvent::Changed(peer, Liveness::Dead) => writeln!(self.log, "    {ms}: {id} holds {peer} for dead"),
            LivenessEvent::Restored(peer) => writeln!(self.log, "    {ms}: {id} has {peer} back"),
        };
    }

    /// Lets time pass in steps of a millisecond. What flies to a paused node waits in its queues.
    fn run(&mut self, ms: u64) {
        for _ in 0..ms {
            self.now = self.now + Duration::from_millis(1);
            self.deliver();
            self.tick();
        }
    }

    fn awake(&self) -> Vec<NodeId> {
        let awake = self.nodes.iter().filter(|(_, node)| !node.paused && !node.down);
        awake.map(|(&id, _)| id).collect()
    }

    fn tick(&mut self) {
        for id in self.awake() {
            if self.nodes[&id].monitor.deadline() <= self.now {
                self.act(id, |monitor, now, events| monitor.tick(now, events));
            }
        }
    }

    fn deliver(&mut self) {
        let awake = self.awake();
        let (now, flying) = (self.now, core::mem::take(&mut self.flying));
        for (at, from, to, heartbeat) in flying {
            if self.nodes[&to].down {
            } else if at <= now && awake.contains(&to) {
                self.act(to, |monitor, now, events| {
                    monitor.received(now, from, heartbeat, events)
                });
            } else {
                self.flying.push((at, from, to, heartbeat));
            }
        }
    }

    fn obey(&mut self, words: &[&str]) {
        let number = |word: &str| word.parse::<u64>().expect("a number");
        match *words {
            ["run", ms] => self.run(number(ms)),
            ["cut", from, to] => self.cut.push((NodeId(number(from)), NodeId(number(to)))),
            ["heal"] => self.cut.clear(),
            ["pause", id] => self.node(id).paused = true,
            ["resume", id] => self.node(id).paused = false,
            // On waking, time has passed before any message is looked at.
            ["resume", id, "timer", "first"] => {
                self.node(id).paused = false;
                self.act(NodeId(number(id)), |monitor, now, events| monitor.tick(now, events));
            }
            ["stop", id] => self.node(id).down = true,
            ["restart", id] => {
                let incarnation = self.node(id).incarnation + 1;
                self.start(NodeId(number(id)), incarnation);
            }
            ["refused", id, "at", by] => {
                let peer = NodeId(number(id));
                self.act(NodeId(number(by)), |monitor, now, events| {
                    monitor.refused(now, peer, events)
                });
            }
            ["stall", id] => self.node(id).monitor.set_stalled(true),
            ["unstall", id] => self.node(id).monitor.set_stalled(false),
            _ => panic!("no such command: {words:?}"),
        }
    }

    fn node(&mut self, id: &str) -> &mut Node {
        let id = NodeId(id.parse().expect("a number"));
        self.nodes.get_mut(&id).expect("one of three")
    }
}

/// Runs the commands of a transcript, and returns it with what they led to.
fn replay(transcript: &str) -> String {
    let mut cluster = Cluster::new();
    for line in transcript.lines().filter(|line| !line.starts_with(' ')) {
        cluster.log.push_str(line);
        cluster.log.push('\n');
        if !line.starts_with('#') && !line.is_empty() {
            let words: Vec<_> = line.split_whitespace().collect();
            cluster.obey(&words);
        }
    }
    cluster.log
}

#[track_caller]
fn check(name: &str) {
    let path = format!("{}/testdata/liveness/{name}.txt", env!("CARGO_MANIFEST_DIR"));
    let expected = std::fs::read_to_string(&path).expect("a transcript");
    let found = replay(&expected);
    if std::env::var_os("UPDATE_TRANSCRIPTS").is_some() {
        std::fs::write(&path, &found).expect("writable");
    }
    assert_eq!(found, expected, "{name}");
}

#[test]
fn all_is_well() {
    check("all_is_well");
}

#[test]
fn a_silent_broker_is_suspected_and_comes_back() {
    check("silent_broker");
}

#[test]
fn a_one_way_cut_is_seen_from_both_ends() {
    check("one_way_cut");
}

#[test]
fn a_killed_broker_is_dead_at_once_and_restored_with_its_next_incarnation() {
    check("killed_broker");
}

#[test]
fn a_quick_restart_is_told_although_nobody_was_missed() {
    check("quick_restart");
}

#[test]
fn a_paused_leader_wakes_without_suspecting_everyone() {
    check("paused_leader");
}

#[test]
fn a_broker_that_wakes_alone_suspects_after_a_moment() {
    check("wakes_alone");
}

#[test]
fn a_stalled_disk_silences_its_broker_and_accuses_nobody() {
    check("stalled_disk");
}

#[test]
fn a_broker_that_never_came_is_suspected_after_one_timeout() {
    check("never_came");
}

fn monitor() -> LivenessMonitor {
    let config = LivenessConfig {
        node: NodeId(1),
        incarnation: 3,
        interval: INTERVAL,
        timeout: TIMEOUT,
    };
    LivenessMonitor::new(config, &[NodeId(1), NodeId(2)], Instant(0))
}

fn heartbeat(incarnation: u64, sequence: u64, echo: u64) -> Heartbeat {
    Heartbeat {
        incarnation,
        sequence,
        echo_sequence: echo,
        echo_incarnation: 3,
        hears: Vec::new(),
    }
}

#[test]
fn the_past_the_repeated_and_strangers_are_ignored() {
    let mut monitor = monitor();
    let mut events = Vec::new();
    monitor.tick(Instant(0), &mut events);
    monitor.received(Instant(1), NodeId(2), heartbeat(7, 5, 1), &mut events);
    let deadline = monitor.clone().peers[&NodeId(2)].silent_at(TIMEOUT);
    events.clear();
    for (from, heartbeat) in [
        (2, heartbeat(6, 9, 1)),
        (2, heartbeat(7, 5, 1)),
        (2, heartbeat(7, 4, 1)),
        (9, heartbeat(1, 1, 1)),
    ] {
        monitor.received(Instant(20_000), NodeId(from), heartbeat, &mut events);
    }
    assert_eq!(events, []);
    assert_eq!(monitor.peers[&NodeId(2)].silent_at(TIMEOUT), deadline);
    assert_eq!(monitor.liveness(NodeId(9)), Liveness::Dead);
}

#[test]
fn an_echo_of_what_was_never_sent_proves_nothing() {
    let mut monitor = monitor();
    let mut events = Vec::new();
    monitor.tick(Instant(0), &mut events);
    monitor.received(Instant(1_000), NodeId(2), heartbeat(7, 1, 1_000), &mut events);
    assert_eq!(monitor.peers[&NodeId(2)].echo_sequence, 0);
}

#[test]
fn the_last_words_of_a_dead_process_do_not_revive_it() {
    let mut monitor = monitor();
    let mut events = Vec::new();
    monitor.tick(Instant(0), &mut events);
    monitor.received(Instant(1_000), NodeId(2), heartbeat(7, 1, 0), &mut events);
    monitor.refused(Instant(2_000), NodeId(2), &mut events);
    // It had heard our first heartbeat, and said so before it died.
    monitor.received(Instant(3_000), NodeId(2), heartbeat(7, 2, 1), &mut events);
    assert_eq!(monitor.liveness(NodeId(2)), Liveness::Dead);
    // The refusal was a mistake: it answers what was sent since.
    monitor.tick(Instant(25_000), &mut events);
    monitor.received(Instant(26_000), NodeId(2), heartbeat(7, 3, 2), &mut events);
    assert_eq!(monitor.liveness(NodeId(2)), Liveness::Alive);
}

#[test]
fn peers_may_come_and_go() {
    let mut monitor = monitor();
    let mut events = Vec::new();
    monitor.remove_peer(NodeId(2));
    monitor.tick(Instant(0), &mut events);
    assert_eq!(events, []);
    monitor.add_peer(Instant(10_000), NodeId(4));
    monitor.add_peer(Instant(10_000), NodeId(1));
    assert_eq!(monitor.deadline(), Instant(10_000));
    monitor.tick(Instant(10_000), &mut events);
    assert!(matches!(
        events[..],
        [LivenessEvent::Send(NodeId(4), Heartbeat { sequence: 1, .. })]
    ));
}

#[test]
fn a_broker_that_is_always_late_suspects_in_the_end() {
    let mut monitor = monitor();
    let mut events = Vec::new();
    monitor.tick(Instant(0), &mut events);
    for n in 1..10 {
        monitor.tick(Instant(n * 90_000), &mut events);
    }
    assert_eq!(monitor.liveness(NodeId(2)), Liveness::Suspected);
}

/// Node 1 of three, of which 3 says at 1 ms that it hears `hears`, again and again until `until`, and 2 never says
/// anything.
fn with_a_witness(hears: &[u64], until: u64, events: &mut Vec<LivenessEvent>) -> LivenessMonitor {
    let mut monitor = monitor();
    monitor.add_peer(Instant(0), NodeId(3));
    let hears: Vec<NodeId> = hears.iter().copied().map(NodeId).collect();
    for (sequence, at) in (0..until).step_by(25_000).enumerate() {
        monitor.tick(Instant(at), events);
        let sequence = 1 + sequence as u64;
        let heartbeat = Heartbeat {
            hears: hears.clone(),
            ..heartbeat(5, sequence, sequence)
        };
        monitor.received(Instant(at + 1_000), NodeId(3), heartbeat, events);
    }
    monitor
}

#[test]
fn a_silent_peer_that_another_one_hears_is_reached_through_that_one() {
    let mut events = Vec::new();
    let monitor = with_a_witness(&[1, 2], 300_000, &mut events);
    assert!(events.contains(&LivenessEvent::Changed(NodeId(2), Liveness::Suspected)));
    assert_eq!(monitor.route(NodeId(2)), Some(NodeId(3)));
    assert_eq!(monitor.routes(), BTreeMap::from([(NodeId(2), NodeId(3))]));
    assert_eq!(monitor.route(NodeId(3)), None, "it is in contact itself");
    assert_eq!(monitor.unreachable(), BTreeSet::new());
    let sent = events.iter().rev().find_map(|event| match event {
        LivenessEvent::Send(_, heartbeat) => Some(heartbeat.hears.clone()),
        _ => None,
    });
    assert_eq!(sent, Some(vec![NodeId(3)]), "the others are told who is heard here");
}

#[test]
fn a_silent_peer_that_nobody_hears_is_out_of_reach() {
    let monitor = with_a_witness(&[1], 300_000, &mut Vec::new());
    assert_eq!(monitor.routes(), BTreeMap::new());
    assert_eq!(monitor.unreachable(), BTreeSet::from([NodeId(2)]));
}

#[test]
fn a_witness_that_falls_silent_itself_counts_no_more() {
    let mut events = Vec::new();
    let mut monitor = with_a_witness(&[1, 2], 300_000, &mut events);
    for at in (300_000..500_000).step_by(25_000) {
        monitor.tick(Instant(at), &mut events);
    }
    assert_eq!(monitor.routes(), BTreeMap::new());
    assert_eq!(
        monitor.unreachable(),
        BTreeSet::new(),
        "it hears nobody: it may be alone itself"
    );
}

#[test]
fn processes_that_have_ended_are_known_without_hearing_anybody() {
    let mut events = Vec::new();
    let config = monitor().config;
    let mut monitor = LivenessMonitor::new(config, &[NodeId(1), NodeId(2), NodeId(3)], Instant(0));
    monitor.tick(Instant(0), &mut events);
    for peer in [2, 3] {
        monitor.received(Instant(1_000), NodeId(peer), heartbeat(7, 1, 0), &mut events);
    }
    assert_eq!(monitor.refusing(), BTreeSet::new());
    monitor.refused(Instant(2_000), NodeId(2), &mut events);
    assert_eq!(monitor.refusing(), BTreeSet::from([NodeId(2)]));
    monitor.refused(Instant(2_000), NodeId(3), &mut events);
    assert_eq!(monitor.refusing(), BTreeSet::from([NodeId(2), NodeId(3)]));
    assert_eq!(monitor.unreachable(), BTreeSet::new(), "it hears nobody");
}

#[test]
fn a_refusal_that_a_witness_goes_on_contradicting_becomes_a_suspicion() {
    for (hears, expected) in [(&[1, 2][..], Liveness::Suspected), (&[1][..], Liveness::Dead)] {
        let mut events = Vec::new();
        let mut monitor = with_a_witness(hears, 50_000, &mut events);
        monitor.refused(Instant(50_000), NodeId(2), &mut events);
        assert_eq!(monitor.liveness(NodeId(2)), Liveness::Dead);
        for (sequence, at) in (50_000..300_000).step_by(25_000).enumerate() {
            monitor.tick(Instant(at), &mut events);
            let sequence = 3 + sequence as u64;
            let heartbeat = Heartbeat {
                hears: hears.iter().copied().map(NodeId).collect(),
                ..heartbeat(5, sequence, sequence)
            };
            monitor.received(Instant(at + 1_000), NodeId(3), heartbeat, &mut events);
            if at < 250_000 {
                assert_eq!(monitor.liveness(NodeId(2)), Liveness::Dead, "at {at}");
            }
        }
        assert_eq!(monitor.liveness(NodeId(2)), expected);
    }
}
