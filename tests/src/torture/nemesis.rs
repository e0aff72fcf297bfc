//! Does to the cluster what the seed says, and undoes it in time.

use super::faults::{self, Fault, Kind, Victims, Weather};
use super::network::{Network, Way};
use super::witness::Witness;
use crate::checker::Law;
use crate::process::{BrokerProcess, Cluster, HungThread, KafkaClient, get, post};
use crate::sim::rng::Rng;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a broker that was told to stop may take: its own deadline is ten seconds, and a debug build on a busy machine
/// is slow.
const STOPS_WITHIN: Duration = Duration::from_secs(60);

/// How far the last words of a broker that ended by itself are told.
const LAST_WORDS: usize = 30;

/// What a broker's process is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Running,
    /// Until it is started again.
    Down(Instant),
    /// Until it goes on.
    Paused(Instant),
    /// It was told to stop at that time, and is started again so long after its end.
    Leaving(Instant, Duration),
}

/// The adversary. Owns the processes and the ways between them.
pub struct Nemesis {
    cluster: Cluster,
    network: Network,
    witness: Arc<Witness>,
    client: KafkaClient,
    rng: Rng,
    kinds: BTreeSet<Kind>,
    /// Partitions that exist all the time: what leaders and followers are told by.
    partitions: Vec<(String, i32)>,
    states: Vec<State>,
    /// Ways that are not as they should be, and until when.
    ways: BTreeMap<(u32, u32), (Weather, Instant)>,
    /// Threads that stand still, by their broker's place, and until when.
    hung: BTreeMap<usize, (HungThread, Instant)>,
    /// Logs that nobody reads, by their broker's place, and until when.
    unread: BTreeMap<usize, Instant>,
    /// Brokers, by their place, whose disks are not what they wrote. They may refuse to start with them; then an operator gives
    /// them an empty one, as the documentation says.
    tampered: BTreeSet<usize>,
    next_at: Instant,
    counts: BTreeMap<Kind, u64>,
}

impl Nemesis {
    /// An adversary of a running cluster.
    pub fn new(
        cluster: Cluster,
        network: Network,
        kinds: BTreeSet<Kind>,
        partitions: Vec<(String, i32)>,
        rng: Rng,
        witness: Arc<Witness>,
    ) -> Nemesis {
        Nemesis {
            client: KafkaClient::new(witness.clients()),
            states: vec![State::Running; cluster.brokers.len()],
            cluster,
            network,
            witness,
            rng,
            kinds,
            partitions,
            ways: BTreeMap::new(),
            hung: BTreeMap::new(),
            unread: BTreeMap::new(),
            tampered: BTreeSet::new(),
            next_at: Instant::now(),
            counts: BTreeMap::new(),
        }
    }

    /// The cluster.
    pub fn cluster(&mut self) -> &mut Cluster {
        &mut self.cluster
    }

    /// How often what was done.
    pub fn counts(&self) -> &BTreeMap<Kind, u64> {
        &self.counts
    }

    /// Does what is due. To be called every few milliseconds.
    pub fn turn(&mut self) {
        let now = Instant::now();
        self.look_after(now);
        if now >= self.next_at {
            let brokers = self.brokers();
            if let Some(fault) = faults::draw(&mut self.rng, &self.kinds, brokers) {
                self.strike(fault, now);
            }
            // Sometimes on top of each other, sometimes with time to recover.
            self.next_at = now + Duration::from_millis(self.rng.between(100, 4_000));
        }
    }

    /// Ends all faults. Brokers that were told to stop are waited for by [`Nemesis::look_after`].
    pub fn heal(&mut self) {
        self.note("all faults end");
        let now = Instant::now();
        for (_, until) in self.ways.values_mut() {
            *until = now;
        }
        self.hung.values_mut().for_each(|(_, until)| *until = now);
        self.unread.values_mut().for_each(|until| *until = now);
        for state in &mut self.states {
            match state {
                State::Down(until) | State::Paused(until) => *until = now,
                State::Leaving(_, away) => *away = Duration::ZERO,
                State::Running => {}
            }
        }
        self.look_after(now);
    }

    /// Whether all processes run as they should.
    pub fn is_healed(&self) -> bool {
        self.is_undisturbed() && self.unread.is_empty()
    }

    /// The same, but for logs that nobody reads: those keep no replica from being in sync.
    fn is_undisturbed(&self) -> bool {
        let all_run = self.states.iter().all(|state| *state == State::Running);
        all_run && self.ways.is_empty() && self.hung.is_empty()
    }

    /// Brokers that end by themselves are noticed; what has lasted long enough ends.
    pub fn look_after(&mut self, now: Instant) {
        for at in 0..self.states.len() {
            self.look_after_broker(at, now);
        }
        self.hung.retain(|at, (_, until)| {
            let lasts = *until > now;
            if !lasts {
                self.witness.note(format!("the thread of broker {} goes on", at + 1));
            }
            lasts
        });
        self.unread.retain(|at, until| {
            let lasts = *until > now;
            if !lasts {
                self.witness.note(format!("the log of broker {} is read again", at + 1));
                self.cluster.brokers[*at].resume_log();
            }
            lasts
        });
        let over: Vec<(u32, u32)> = self
            .ways
            .iter()
            .filter(|(_, (_, until))| *until <= now)
            .map(|(way, _)| *way)
            .collect();
        for way in &over {
            self.ways.remove(way);
        }
        if !over.is_empty() {
            self.note(format!("ways are whole again: {}", show(&over)));
            self.show_ways();
        }
    }

    fn look_after_broker(&mut self, at: usize, now: Instant) {
        let broker = &mut self.cluster.brokers[at];
        let id = broker.id;
        match self.states[at] {
            State::Running => {
                if let Some(status) = broker.ended() {
                    let words = last_words(broker);
                    if words.contains("can't bind to") {
                        // Another program of this machine took the port while the broker was away.
                        self.note(format!("broker {id} finds its port taken, and is started again"));
                    } else if self.tampered.remove(&at) && !status.success() {
                        self.note(format!(
                            "broker {id} refuses its disk, and gets an empty one; its last words:\n{words}"
                        ));
                        self.states[at] = State::Down(now + Duration::from_secs(1));
                        self.empty_disks();
                    } else {
                        let detail = format!("broker {id} ended by itself with {status}; its last words:\n{words}");
                        self.witness.accuse(Law::Converges, detail);
                    }
                    self.states[at] = State::Down(now + Duration::from_secs(1));
                    self.show_ways();
                }
            }
            State::Down(until) if until <= now => {
                self.note(format!("broker {id} starts"));
                self.states[at] = State::Running;
                // Before it runs, so that nobody who looks for it is told that it is gone.
                self.show_ways();
                self.cluster.brokers[at].start();
            }
            State::Paused(until) if until <= now => {
                self.note(format!("broker {id} goes on"));
                self.cluster.brokers[at].resume();
                self.states[at] = State::Running;
            }
            State::Leaving(since, away) => {
                if let Some(status) = broker.ended() {
                    self.note(format!("broker {id} has ended with {status}"));
                    if !status.success() {
                        let detail = format!("broker {id}, told to stop, ended with {status}");
                        self.witness.accuse(Law::Converges, detail);
                    }
                    self.states[at] = State::Down(now + away);
                    self.show_ways();
                } else if now >= since + STOPS_WITHIN {
                    let detail = format!("broker {id}, told to stop, still runs after {STOPS_WITHIN:?}");
                    broker.kill();
                    self.witness.accuse(Law::Converges, detail);
                    self.states[at] = State::Down(now);
                    self.show_ways();
                }
            }
            State::Down(_) | State::Paused(_) => {}
        }
    }

    fn strike(&mut self, fault: Fault, now: Instant) {
        let kind = fault.kind();
        let struck = match fault {
            Fault::Kill(victims, lasts) => self.kill(&victims, now + lasts),
            Fault::Pause(victims, lasts) => self.each(&victims, |nemesis, at| {
                nemesis.cluster.brokers[at].pause();
                nemesis.states[at] = State::Paused(now + lasts);
                format!("is paused for {lasts:?}")
            }),
            Fault::Hang(victims, which, lasts) => self.hang(&victims, which, now + lasts),
            Fault::LogStall(victims, lasts) => self.each(&victims, |nemesis, at| {
                nemesis.cluster.brokers[at].stall_log();
                nemesis.unread.insert(at, now + lasts);
                format!("logs to nobody for {lasts:?}")
            }),
            Fault::Stop(victims, lasts) => self.each(&victims, |nemesis, at| {
                nemesis.cluster.brokers[at].terminate();
                nemesis.states[at] = State::Leaving(now, lasts);
                format!("is told to stop, and starts again after {lasts:?}")
            }),
            Fault::Ways { ways, weather, lasts } => {
                self.note(format!("{weather:?} for {lasts:?}: {}", show(&ways)));
                for way in ways {
                    self.ways.insert(way, (weather, now + lasts));
                }
                self.show_ways();
                true
            }
            Fault::Failover(of) => self.fail_over(of),
            Fault::Reformat(victims, lasts) => self.reformat(&victims, now + lasts),
            Fault::LostJournal { victims, zeroed, lasts } => {
                self.tamper(&victims, now + lasts, |broker| lose_journal(broker, zeroed))
            }
            Fault::OldCopy(victims, lasts) => {
                let kept = self.cluster.folder().join("old-copies");
                self.tamper(&victims, now + lasts, |broker| set_back(broker, &kept))
            }
            Fault::Rewind(lasts) => self.rewind(now + lasts),
        };
        if struck {
            *self.counts.entry(kind).or_insert(0) += 1;
        }
    }

    /// All victims at the same time.
    fn kill(&mut self, victims: &Victims, until: Instant) -> bool {
        let struck = self.each(victims, |nemesis, at| {
            nemesis.cluster.brokers[at].kill_now();
            nemesis.states[at] = State::Down(until);
            "is killed".to_owned()
        });
        for at in 0..self.states.len() {
            if matches!(self.states[at], State::Down(_)) {
                self.cluster.brokers[at].kill();
            }
        }
        self.show_ways();
        struck
    }

    /// One thread of each victim stands still. False if the system does not permit it.
    fn hang(&mut self, victims: &Victims, which: u64, until: Instant) -> bool {
        const THREADS: [&str; 6] = ["shard-0", "shard-1", "journal", "control", "files-0", "cleanup"];
        let thread = THREADS[usize::try_from(which % 6).unwrap_or(0)];
        let mut is_hung = false;
        self.each(victims, |nemesis, at| {
            let pid = nemesis.cluster.brokers[at].pid().unwrap_or(0);
            if nemesis.hung.contains_key(&at) {
                return "has a thread that stands still".to_owned();
            }
            match HungThread::stop(pid, thread) {
                Ok(hung) => {
                    nemesis.hung.insert(at, (hung, until));
                    is_hung = true;
                    format!("goes on without its thread `{thread}` for {:?}", until - Instant::now())
                }
                Err(error) => format!("keeps its thread `{thread}`: {error}"),
            }
        });
        is_hung
    }

    /// So many brokers are killed, for longer than anybody waits. Says who.
    pub fn take_away(&mut self, count: usize) -> Vec<u32> {
        let mut all: Vec<u32> = (1..=self.brokers()).collect();
        self.rng.shuffle(&mut all);
        all.truncate(count);
        let for_good = Instant::now() + Duration::from_secs(86_400);
        self.kill(&Victims::These(all.clone()), for_good);
        all
    }

    /// Those that were taken away come back; with empty disks, or with those that they had.
    pub fn bring_back(&mut self) {
        // An empty disk each: a minority may lose that much, and all that was acknowledged is on the others.
        if self.rng.chance(500) {
            self.empty_disks();
        }
        *self.counts.entry(Kind::Away).or_insert(0) += 1;
        self.heal();
    }

    /// A victim loses its disk, if all the others have what it has.
    fn reformat(&mut self, victims: &Victims, until: Instant) -> bool {
        if !self.is_undisturbed() || !self.is_in_sync() {
            return false;
        }
        let struck = self.kill(victims, until);
        self.empty_disks();
        struck
    }

    /// Something is done to a victim's disk that costs it what it held, if all the others hold it.
    fn tamper(
        &mut self,
        victims: &Victims,
        until: Instant,
        how: impl Fn(&BrokerProcess) -> io::Result<&'static str>,
    ) -> bool {
        if !self.is_undisturbed() || !self.is_in_sync() {
            return false;
        }
        let struck = self.kill(victims, until);
        for at in 0..self.states.len() {
            if !matches!(self.states[at], State::Down(_)) {
                continue;
            }
            self.tampered.insert(at);
            let what = match how(&self.cluster.brokers[at]) {
                Ok(what) => what.to_owned(),
                Err(error) => format!("can't be changed: {error}"),
            };
            self.note(format!("the disk of broker {} {what}", at + 1));
        }
        struck
    }

    /// Those that are down lose their disks.
    fn empty_disks(&self) {
        let brokers = self.cluster.brokers.iter().zip(&self.states);
        for (broker, _) in brokers.filter(|(_, state)| matches!(state, State::Down(_))) {
            let what = match fs::remove_dir_all(broker.data_path()) {
                Ok(()) => "is lost".to_owned(),
                Err(error) => format!("can't be emptied: {error}"),
            };
            self.note(format!("the disk of broker {} {what}", broker.id));
        }
    }

    /// Whether every broker is ready and says that no group that it leads lacks a replica, the metadata group included.
    fn is_in_sync(&self) -> bool {
        self.cluster.brokers.iter().all(|broker| {
            let metrics = get(broker.admin, "/metrics")
                .map(|reply| reply.body)
                .unwrap_or_default();
            let lacks = metrics
                .lines()
                .find_map(|line| line.strip_prefix("trimaran_under_replicated "));
            broker.is_ready() && lacks == Some("0")
        })
    }

    /// All brokers end at once. The first time their disks are kept, and every other time they are set back to that.
    fn rewind(&mut self, until: Instant) -> bool {
        if self.states.iter().any(|state| *state != State::Running) {
            return false;
        }
        let all = Victims::These((1..=self.brokers()).collect());
        let struck = self.kill(&all, until);
        let kept = self.cluster.folder().join("kept");
        let is_kept = kept.exists();
        for broker in &self.cluster.brokers {
            let (disk, copy) = (broker.data_path(), kept.join(broker.id.to_string()));
            let done = if is_kept {
                fs::remove_dir_all(&disk).and_then(|()| copy_folder(&copy, &disk))
            } else {
                copy_folder(&disk, &copy)
            };
            let what = match (done, is_kept) {
                (Ok(()), true) => "is set back".to_owned(),
                (Ok(()), false) => "is kept".to_owned(),
                (Err(error), _) => format!("can't be copied: {error}"),
            };
            self.note(format!("the disk of broker {} {what}", broker.id));
        }
        struck
    }

    /// Does something to each victim that runs. Says whether there was any.
    fn each(&mut self, victims: &Victims, mut act: impl FnMut(&mut Nemesis, usize) -> String) -> bool {
        let mut struck = false;
        for id in self.resolve(victims) {
            let at = usize::try_from(id).unwrap_or(1).saturating_sub(1);
            if self.states.get(at) != Some(&State::Running) {
                continue;
            }
            struck = true;
            let what = act(self, at);
            self.note(format!("broker {id} {what}"));
        }
        struck
    }

    fn resolve(&mut self, victims: &Victims) -> Vec<u32> {
        match victims {
            Victims::These(these) => these.clone(),
            Victims::LeaderOf(of) => self.leader_of(*of).map_or(Vec::new(), |(leader, _)| vec![leader]),
            Victims::FollowerOf(of, which) => {
                let leader = self.leader_of(*of).map(|(leader, _)| leader);
                let others: Vec<u32> = (1..=self.brokers()).filter(|id| Some(*id) != leader).collect();
                let at = which % (others.len() as u64).max(1);
                others
                    .get(usize::try_from(at).unwrap_or(0))
                    .map_or(Vec::new(), |id| vec![*id])
            }
        }
    }

    /// Who leads one of the partitions, as far as anybody knows.
    fn leader_of(&self, of: u64) -> Option<(u32, (String, i32))> {
        let at = of % (self.partitions.len() as u64).max(1);
        let (topic, partition) = self.partitions.get(usize::try_from(at).unwrap_or(0))?;
        let leader = self.client.leader(topic, *partition)?;
        Some((u32::try_from(leader.id).ok()?, (topic.clone(), *partition)))
    }

    fn fail_over(&mut self, of: u64) -> bool {
        let Some((leader, (topic, partition))) = self.leader_of(of) else {
            return false;
        };
        let Some(asked) = self.rng.pick(&self.witness.brokers).copied() else {
            return false;
        };
        self.note(format!(
            "broker {} is asked that another than broker {leader} leads {topic}-{partition}",
            asked.id
        ));
        let request = format!(
            "{{\"type\":\"partition_failover\",\"msg_id\":1,\"topic\":\"{topic}\",\"partition\":{partition},\
             \"failed_leader\":\"broker-{leader}\"}}"
        );
        let witness = Arc::clone(&self.witness);
        // Whoever is asked may be away, and an answer takes its time.
        std::thread::spawn(move || match post(asked.admin, "/rpc", &request) {
            Ok(reply) => witness.note(format!("failover: {} {}", reply.status, reply.body.trim_end())),
            Err(error) => witness.note(format!("failover: {error}")),
        });
        true
    }

    /// Tells the network what holds for each way now.
    fn show_ways(&self) {
        for (from, to) in self.pairs() {
            let at = usize::try_from(to).unwrap_or(1).saturating_sub(1);
            let is_down = matches!(self.states[at], State::Down(_));
            let way = match self.ways.get(&(from, to)) {
                Some((Weather::Silent, _)) => Way::Silent,
                Some((Weather::Broken, _)) => Way::Broken,
                _ if is_down => Way::Refused,
                Some((Weather::Slow(delay), _)) => Way::Slow(*delay),
                None => Way::Open,
            };
            self.network.set(from, to, way);
        }
    }

    fn pairs(&self) -> Vec<(u32, u32)> {
        let all = 1..=self.brokers();
        all.clone()
            .flat_map(|from| all.clone().map(move |to| (from, to)))
            .filter(|(from, to)| from != to)
            .collect()
    }

    fn brokers(&self) -> u32 {
        u32::try_from(self.states.len()).unwrap_or(0)
    }

    fn note(&self, words: impl Into<String>) {
        self.witness.note(words);
    }
}

/// The journal is gone, or its files hold nothing but zeros; all else stays.
fn lose_journal(broker: &BrokerProcess, zeroed: bool) -> io::Result<&'static str> {
    let journal = broker.data_path().join("journal");
    if !zeroed {
        fs::remove_dir_all(&journal)?;
        return Ok("has no journal any more");
    }
    for entry in fs::read_dir(&journal)? {
        let path = entry?.path();
        if path.is_file() {
            let length = usize::try_from(fs::metadata(&path)?.len()).unwrap_or(0);
            fs::write(&path, vec![0; length])?;
        }
    }
    Ok("has a journal of zeros")
}

/// A disk is kept, or set back to what was kept.
fn set_back(broker: &BrokerProcess, kept: &Path) -> io::Result<&'static str> {
    let (disk, copy) = (broker.data_path(), kept.join(broker.id.to_string()));
    if copy.exists() {
        fs::remove_dir_all(&disk)?;
        copy_folder(&copy, &disk)?;
        Ok("is set back to an old copy")
    } else {
        copy_folder(&disk, &copy)?;
        Ok("is kept for later")
    }
}

/// Copies a folder with everything in it.
fn copy_folder(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let copy = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &copy)?;
        } else {
            fs::copy(entry.path(), copy)?;
        }
    }
    Ok(())
}

/// The end of what a broker said.
pub fn last_words(broker: &BrokerProcess) -> String {
    let log = broker.log();
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(LAST_WORDS)..].join("\n")
}

fn show(ways: &[(u32, u32)]) -> String {
    let ways: Vec<String> = ways.iter().map(|(from, to)| format!("{from}->{to}")).collect();
    ways.join(" ")
}
