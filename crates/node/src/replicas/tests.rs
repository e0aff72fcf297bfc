use super::*;
use std::path::Path;
use std::sync::Arc;
use trimaran_raft::LogIndex;
use trimaran_registry::{BrokerId, PartitionIndex, TopicId};
use trimaran_storage::fs::Fs;
use trimaran_storage::fs::faulty::FaultyFs;
use trimaran_storage::log::LogError;

const OWN: NodeId = NodeId(1);
const GROUP: GroupId = GroupId(7);

/// A broker's replicas and its disk.
struct Broker {
    replicas: Replicas,
    disk: FaultyFs,
    out: Vec<Output>,
    lives: u64,
}

impl Broker {
    fn new() -> Broker {
        let options = ReplicaOptions {
            tail_bytes: 1 << 10,
            max_segment_bytes: 1 << 20,
            max_segment_ms: u64::MAX,
            retains: true,
            delivered_topic: None,
            retry: RetryPauses {
                first: Duration::from_secs(1),
                longest: Duration::from_secs(3),
            },
        };
        Broker {
            replicas: Replicas::new(OWN, options, BTreeMap::new()),
            disk: FaultyFs::new(1),
            out: Vec::new(),
            lives: 0,
        }
    }

    fn open(&mut self, standing: Standing) {
        let members: Arc<[BrokerId]> = [1, 2, 3].map(BrokerId).into();
        let replica = OpenReplica {
            group: ids::catalog_group(GROUP),
            founders: Arc::clone(&members),
            replicas: members,
            standing,
            topic: "orders".into(),
            topic_id: TopicId([1; 16]),
            partition: PartitionIndex(0),
            config: TopicConfig::default(),
        };
        self.replicas.open(replica, &mut self.out);
    }

    /// The jobs that the outputs ask for.
    fn jobs(&mut self) -> Vec<OpenJob> {
        let job = |output| match output {
            Output::Open(job) => Some(*job),
            _ => None,
        };
        std::mem::take(&mut self.out).into_iter().filter_map(job).collect()
    }

    fn job(&mut self) -> OpenJob {
        let mut jobs = self.jobs();
        assert_eq!(jobs.len(), 1, "one job at a time");
        jobs.remove(0)
    }

    /// Runs a job, and says what its shard is told.
    fn run(&mut self, at: u64, job: OpenJob) -> Vec<&'static str> {
        let fs: Arc<dyn Fs> = Arc::new(self.disk.clone());
        self.lives += 1;
        let lives = self.lives;
        let opened = job.run(&fs, Path::new("/data"), |_| trimaran_raft::Life(lives));
        self.replicas.opened(seconds(at), opened, &mut self.out);
        self.told()
    }

    /// What the shard is told, without what else comes out.
    fn told(&mut self) -> Vec<&'static str> {
        let told = |output: &Output| match output {
            Output::Shard(_, Input::Open(_)) => Some("open"),
            Output::Shard(_, Input::Damaged(_)) => Some("damaged"),
            Output::Shard(_, Input::Replicas(..)) => Some("replicas"),
            Output::Shard(_, Input::Close(_)) => Some("close"),
            _ => None,
        };
        let said = self.out.iter().filter_map(told).collect();
        self.out.retain(|output| matches!(output, Output::Open(_)));
        said
    }
}

fn seconds(at: u64) -> Instant {
    Instant(at * 1_000_000)
}

fn lost() -> Lost {
    Lost {
        group: GROUP,
        error: LogError::Gap {
            expected: LogIndex(2),
            found: LogIndex(5),
        },
    }
}

#[test]
fn a_replica_is_opened_once_and_told_what_it_has_missed() {
    let mut broker = Broker::new();
    broker.open(Standing::Founding);
    let job = broker.job();
    broker.open(Standing::Founding);
    assert!(broker.jobs().is_empty(), "it is being opened");
    broker
        .replicas
        .want(GROUP, vec![NodeId(1), NodeId(4)], 9, &mut broker.out);
    broker.out.clear();
    let fs: Arc<dyn Fs> = Arc::new(broker.disk.clone());
    let opened = job.run(&fs, Path::new("/data"), |life| life);
    broker.replicas.opened(seconds(0), opened, &mut broker.out);
    let wish = broker.out.iter().find_map(|output| match output {
        Output::Shard(_, Input::Replicas(_, wanted, version)) => Some((wanted.clone(), *version)),
        _ => None,
    });
    assert_eq!(wish, Some((vec![NodeId(1), NodeId(4)], 9)));
    broker.out.clear();
    broker.open(Standing::Founding);
    assert!(broker.jobs().is_empty(), "it is open");
}

#[test]
fn what_is_closed_while_it_is_being_opened_reaches_its_shard_and_is_closed_there() {
    let mut broker = Broker::new();
    broker.open(Standing::Founding);
    let job = broker.job();
    broker.replicas.close(GROUP, &mut broker.out);
    assert!(broker.told().is_empty() && !broker.replicas.has(GROUP));
    assert_eq!(broker.run(0, job), ["open", "close"], "the journal must forget it");
    assert_eq!(broker.replicas.counts(), Counts::default());
}

#[test]
fn what_comes_back_is_opened_when_nothing_is_left_of_it_and_as_one_that_has_promised() {
    let mut broker = Broker::new();
    broker.open(Standing::Founding);
    let job = broker.job();
    broker.run(0, job);
    broker.replicas.close(GROUP, &mut broker.out);
    assert_eq!(broker.told(), ["close"]);
    broker.open(Standing::Founding);
    assert!(broker.jobs().is_empty(), "its folder is still there");
    broker.replicas.deleted(GROUP, &mut broker.out);
    assert!(matches!(broker.job().how, How::Nothing(Standing::Joining)));
}

#[test]
fn what_comes_back_and_is_taken_away_again_is_not_opened() {
    let mut broker = Broker::new();
    broker.open(Standing::Founding);
    let job = broker.job();
    broker.run(0, job);
    broker.replicas.close(GROUP, &mut broker.out);
    broker.open(Standing::Joining);
    broker.replicas.close(GROUP, &mut broker.out);
    broker.out.clear();
    broker.replicas.deleted(GROUP, &mut broker.out);
    assert!(broker.jobs().is_empty());
    broker.open(Standing::Joining);
    assert_eq!(broker.jobs().len(), 1, "a later one is");
}

#[test]
fn what_cannot_be_opened_takes_no_part_and_is_tried_again_after_longer_pauses() {
    let mut broker = Broker::new();
    broker.open(Standing::Joining);
    let mut job = broker.job();
    broker.disk.set_capacity(Some(0));
    let mut pauses = Vec::new();
    let mut at = 0;
    for _ in 0..4 {
        assert_eq!(broker.run(at, job)[0], "damaged");
        assert!(broker.replicas.has_failed());
        let failed_at = at;
        job = loop {
            at += 1;
            broker.replicas.look(seconds(at), &mut broker.out);
            if !broker.out.is_empty() {
                break broker.job();
            }
        };
        pauses.push(at - failed_at);
    }
    assert_eq!(pauses, [1, 2, 3, 3]);
    broker.disk.set_capacity(None);
    assert_eq!(broker.run(at, job), ["open", "replicas"]);
    assert!(!broker.replicas.has_failed());
}

#[test]
fn one_that_is_lost_is_opened_as_lost_and_counted_until_it_is_whole() {
    let mut broker = Broker::new();
    broker.open(Standing::Founding);
    let job = broker.job();
    broker.run(0, job);
    broker.replicas.reopen(lost(), &mut broker.out);
    let job = broker.job();
    assert!(matches!(job.how, How::Damaged));
    assert_eq!(broker.run(0, job), ["open", "replicas"]);
    assert_eq!(broker.replicas.counts().repairing, 1);
    broker.replicas.look(seconds(1), &mut broker.out);
    assert!(matches!(broker.out[..], [Output::AskStatus(GROUP)]));
    broker.replicas.look(seconds(2), &mut broker.out);
    assert_eq!(broker.out.len(), 1, "it is asked once at a time");
    broker.replicas.status(GROUP, None, &mut broker.out);
    assert_eq!(broker.replicas.counts().repairing, 1, "its shard did not say");
}
