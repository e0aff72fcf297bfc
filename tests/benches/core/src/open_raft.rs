//! `openraft`: tasks on a Tokio runtime, over a log in memory; members call each other directly, as in its own benchmark.

use crate::case::{Case, Contender, ELECTION, HEARTBEAT, MEMBERS, Measured, Pace, number, payload, processor_time};
use crate::driver::Applied;
use bytes::Bytes;
use futures_util::{Stream, TryStreamExt};
use openraft::entry::RaftEntry;
use openraft::error::{NetworkError, RPCError, ReplicationClosed, StreamingError};
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse};
use openraft::storage::{EntryResponder, IOFlushed, LogState, RaftLogStorage, RaftStateMachine};
use openraft::type_config::alias::{LogIdOf, SnapshotMetaOf, SnapshotOf, StoredMembershipOf, VoteOf};
use openraft::{
    Config, EntryPayload, OptionalSend, Raft, RaftLogReader, RaftSnapshotBuilder, SnapshotPolicy, StoredMembership,
};
use std::collections::BTreeSet;
use std::fmt::{self, Debug, Display};
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::sync::Notify;

/// A payload: bytes of any length, as for the other cores.
#[derive(Clone)]
pub struct Data(Bytes);

impl Data {
    fn new(number: u64) -> Data {
        Data(Bytes::copy_from_slice(&payload(number)))
    }
}

impl Display for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl Debug for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Display::fmt(self, f)
    }
}

openraft::declare_raft_types!(
    /// The types that it is used with.
    pub Types:
        D = Data,
        R = (),
        Node = (),
);

type Entry = openraft::type_config::alias::EntryOf<Types>;
type Member = Raft<Types, StateMachine>;

/// What is in a log in memory, as lean as those of the other cores but for the lock, which the traits demand.
#[derive(Default)]
struct Entries {
    vote: Option<VoteOf<Types>>,
    /// The index of the first entry.
    start: u64,
    entries: Vec<Entry>,
}

/// A log in memory that forgets what all have.
#[derive(Clone)]
struct Log {
    entries: Arc<Mutex<Entries>>,
    group: Arc<GroupSeen>,
    keep: usize,
}

impl Log {
    fn with<T>(&self, act: impl FnOnce(&mut Entries) -> T) -> T {
        act(&mut self.entries.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A follower may be far behind: a majority goes on without it. Indices run ahead of the count of what was proposed.
    fn forget(&self, log: &mut Entries) {
        if log.entries.len() > 2 * self.keep {
            let all_have = self.group.all().saturating_sub(log.start) as usize;
            let count = all_have.min(log.entries.len() - self.keep);
            log.entries.drain(..count);
            log.start += count as u64;
        }
    }
}

impl RaftLogReader<Types> for Log {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        self.with(|log| {
            let place = |index: u64| (index.saturating_sub(log.start) as usize).min(log.entries.len());
            let first = match range.start_bound() {
                Bound::Included(index) => place(*index),
                Bound::Excluded(index) => place(*index + 1),
                Bound::Unbounded => 0,
            };
            let end = match range.end_bound() {
                Bound::Included(index) => place(*index + 1),
                Bound::Excluded(index) => place(*index),
                Bound::Unbounded => log.entries.len(),
            };
            Ok(log.entries[first..end].to_vec())
        })
    }

    async fn read_vote(&mut self) -> Result<Option<VoteOf<Types>>, io::Error> {
        Ok(self.with(|log| log.vote))
    }
}

impl RaftLogStorage<Types> for Log {
    type LogReader = Log;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, io::Error> {
        Ok(self.with(|log| LogState {
            last_purged_log_id: None,
            last_log_id: log.entries.last().map(|entry| entry.log_id()),
        }))
    }

    async fn get_log_reader(&mut self) -> Log {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &VoteOf<Types>) -> Result<(), io::Error> {
        self.with(|log| log.vote = Some(*vote));
        Ok(())
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        self.with(|log| {
            log.entries.extend(entries);
            self.forget(log);
        });
        callback.io_completed(Ok(()));
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogIdOf<Types>>) -> Result<(), io::Error> {
        self.with(|log| {
            let kept = last.map_or(0, |last| last.index() + 1 - log.start);
            log.entries.truncate(kept as usize);
        });
        Ok(())
    }

    async fn purge(&mut self, _: LogIdOf<Types>) -> Result<(), io::Error> {
        Ok(())
    }
}

/// What one member has applied; who waits for it is told.
#[derive(Default)]
struct Seen {
    count: AtomicU64,
    sum: AtomicU64,
}

/// What the members of one group have applied.
#[derive(Default)]
struct GroupSeen {
    members: [Seen; MEMBERS],
    changed: Notify,
}

impl GroupSeen {
    fn all(&self) -> u64 {
        let counts = self.members.iter().map(|seen| seen.count.load(Ordering::Acquire));
        counts.min().unwrap_or(0)
    }

    async fn wait_for(&self, count: u64) {
        while self.all() < count {
            self.changed.notified().await;
        }
    }
}

/// A state machine: it counts and adds.
pub struct StateMachine {
    member: usize,
    group: Arc<GroupSeen>,
    last: Option<LogIdOf<Types>>,
    membership: StoredMembershipOf<Types>,
}

impl RaftStateMachine<Types> for StateMachine {
    type SnapshotData = ();
    type SnapshotBuilder = NoSnapshots;

    async fn applied_state(&mut self) -> Result<(Option<LogIdOf<Types>>, StoredMembershipOf<Types>), io::Error> {
        Ok((self.last, self.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<Types>, io::Error>> + Unpin + OptionalSend,
    {
        let mut applied = Applied::default();
        while let Some((entry, responder)) = entries.try_next().await? {
            self.last = Some(entry.log_id);
            match entry.payload {
                EntryPayload::Blank => {}
                EntryPayload::Normal(data) => applied.add(number(&data.0)),
                EntryPayload::Membership(membership) => {
                    self.membership = StoredMembership::new(Some(entry.log_id), membership);
                }
            }
            if let Some(responder) = responder {
                responder.send(());
            }
        }
        let seen = &self.group.members[self.member];
        seen.sum.fetch_add(applied.sum, Ordering::Relaxed);
        seen.count.fetch_add(applied.count, Ordering::Release);
        self.group.changed.notify_one();
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> NoSnapshots {
        NoSnapshots
    }

    async fn install_snapshot(&mut self, _: &SnapshotMetaOf<Types>, (): ()) -> Result<(), io::Error> {
        Err(io::Error::other("no member is so far behind"))
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<SnapshotOf<Types, ()>>, io::Error> {
        Ok(None)
    }
}

/// None is ever asked for.
pub struct NoSnapshots;

impl RaftSnapshotBuilder<Types> for NoSnapshots {
    type SnapshotData = ();

    async fn build_snapshot(&mut self) -> Result<SnapshotOf<Types, ()>, io::Error> {
        Err(io::Error::other("no snapshots are taken"))
    }
}

/// The members of one group, known to each other.
#[derive(Clone, Default)]
struct Network {
    members: Arc<Mutex<Vec<Member>>>,
}

/// A way to one member.
struct Way {
    to: Member,
}

impl RaftNetworkFactory<Types> for Network {
    type Network = Way;

    async fn new_client(&mut self, target: u64, (): &()) -> Way {
        let members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        Way {
            to: members[target as usize].clone(),
        }
    }
}

fn lost(error: &(impl std::error::Error + 'static)) -> RPCError<Types> {
    RPCError::Network(NetworkError::new(error))
}

impl RaftNetworkV2<Types> for Way {
    type SnapshotData = ();

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types>,
        _: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        self.to.append_entries(request).await.map_err(|error| lost(&error))
    }

    async fn vote(
        &mut self,
        request: VoteRequest<Types>,
        _: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        self.to.vote(request).await.map_err(|error| lost(&error))
    }

    async fn full_snapshot(
        &mut self,
        _: VoteOf<Types>,
        _: SnapshotOf<Types, ()>,
        _: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        unreachable!("no snapshots are taken")
    }
}

/// Set-ups that cost or save time, depending on the case. The fastest competes.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Threads of the runtime; with one, everything runs in the caller's.
    pub threads: usize,
    /// Nothing is to be proposed: groups have a clock and heartbeats, in virtual time. Otherwise nobody has a clock,
    /// as with the other cores.
    pub is_idle: bool,
}

/// One group.
struct Group {
    leader: Member,
    members: Vec<Member>,
    seen: Arc<GroupSeen>,
}

/// All groups, and the runtime that they live on.
pub struct OpenRaft {
    groups: Vec<Arc<Group>>,
    proposed: u64,
    batch: u64,
    window: u64,
    pace: Pace,
    runtime: Runtime,
}

impl Drop for OpenRaft {
    fn drop(&mut self) {
        let groups = std::mem::take(&mut self.groups);
        self.runtime.block_on(async {
            for member in groups.iter().flat_map(|group| &group.members) {
                member.shutdown().await.ok();
            }
        });
    }
}

impl OpenRaft {
    pub fn new(case: &Case, groups: usize, options: Options, keep: usize) -> OpenRaft {
        let mut runtime = match options.threads {
            1 => tokio::runtime::Builder::new_current_thread(),
            threads => {
                let mut builder = tokio::runtime::Builder::new_multi_thread();
                builder.worker_threads(threads);
                builder
            }
        };
        runtime.enable_time().start_paused(options.is_idle);
        let runtime = runtime.build().expect("a runtime starts");
        // While another contender has its turn, this one must not lose its leaders' leases.
        let election = if options.is_idle {
            ELECTION
        } else {
            Duration::from_secs(3600)
        };
        let config = Config {
            heartbeat_interval: HEARTBEAT.as_millis() as u64,
            election_timeout_min: election.as_millis() as u64,
            election_timeout_max: 2 * election.as_millis() as u64,
            enable_tick: options.is_idle,
            max_payload_entries: 1024,
            snapshot_policy: SnapshotPolicy::Never,
            ..Config::default()
        };
        let config = Arc::new(config.validate().expect("the configuration is valid"));
        let groups = runtime.block_on(async {
            let mut all = Vec::new();
            for group in 0..groups {
                all.push(Arc::new(Group::new(group % MEMBERS, &config, keep).await));
            }
            for group in &all {
                for member in &group.members {
                    let metrics = member.wait(Some(Duration::from_secs(60)));
                    metrics
                        .applied_index_at_least(Some(1), "leaders are elected")
                        .await
                        .expect("a leader is elected");
                }
            }
            all
        });
        OpenRaft {
            groups,
            proposed: 0,
            batch: case.batch as u64,
            window: case.window as u64,
            pace: case.pace,
            runtime,
        }
    }

    /// A second of virtual time in which nothing is proposed; how long it took.
    pub fn idle_second(&mut self) -> Duration {
        let began = processor_time();
        self.runtime
            .block_on(async { tokio::time::sleep(Duration::from_secs(1)).await });
        processor_time() - began
    }
}

impl Group {
    async fn new(leader: usize, config: &Arc<Config>, keep: usize) -> Group {
        let network = Network::default();
        let seen = Arc::new(GroupSeen::default());
        let mut members = Vec::new();
        for member in 0..MEMBERS {
            let log = Log {
                entries: Arc::default(),
                group: seen.clone(),
                keep,
            };
            let machine = StateMachine {
                member,
                group: seen.clone(),
                last: None,
                membership: StoredMembership::default(),
            };
            let raft = Raft::new(member as u64, config.clone(), network.clone(), log, machine).await;
            members.push(raft.expect("a member starts"));
        }
        (*network.members.lock().unwrap_or_else(PoisonError::into_inner)).clone_from(&members);
        let all: BTreeSet<u64> = (0..MEMBERS as u64).collect();
        members[leader]
            .initialize(all)
            .await
            .expect("a new group is initialized");
        Group {
            leader: members[leader].clone(),
            members,
            seen,
        }
    }

    /// Proposes what these numbers name, and waits until the leader has applied it.
    async fn write(&self, first: u64, count: u64) {
        if count == 1 {
            self.leader
                .client_write(Data::new(first))
                .await
                .expect("the leader takes proposals");
            return;
        }
        let data = (first..first + count).map(Data::new);
        let mut answers = self.leader.client_write_many(data).await.expect("the leader runs");
        while let Some(answer) = answers.try_next().await.expect("the leader runs") {
            answer.expect("the leader takes proposals");
        }
    }

    fn check(&self, proposed: u64) {
        let sum = (0..proposed).fold(0, u64::wrapping_add);
        for seen in &self.seen.members {
            let seen = (seen.count.load(Ordering::Acquire), seen.sum.load(Ordering::Acquire));
            assert_eq!(seen, (proposed, sum), "every member applies every proposal once");
        }
    }
}

impl Contender for OpenRaft {
    fn run(&mut self, per_group: u64) -> Measured {
        let (first, target) = (self.proposed, self.proposed + per_group);
        let (batch, pace) = (self.batch, self.pace);
        let clients = self.window / batch;
        let began = processor_time();
        self.runtime.block_on(async {
            let mut tasks = Vec::new();
            for group in &self.groups {
                let next = Arc::new(AtomicU64::new(first));
                for _ in 0..clients {
                    let (group, next) = (group.clone(), next.clone());
                    tasks.push(tokio::spawn(async move {
                        loop {
                            let from = next.fetch_add(batch, Ordering::Relaxed);
                            if from >= target {
                                return;
                            }
                            let count = batch.min(target - from);
                            group.write(from, count).await;
                            if pace == Pace::All {
                                group.seen.wait_for(from + count).await;
                            }
                        }
                    }));
                }
            }
            for task in tasks {
                task.await.expect("a client ends well");
            }
            for group in &self.groups {
                group.seen.wait_for(target).await;
            }
        });
        let took = processor_time() - began;
        self.proposed = target;
        self.groups.iter().for_each(|group| group.check(target));
        Measured {
            proposals: per_group * self.groups.len() as u64,
            took,
            steps: None,
        }
    }

    fn groups(&self) -> usize {
        self.groups.len()
    }
}
