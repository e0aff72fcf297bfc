//! Brokers whose disks are replaced or damaged, and partitions that move to other brokers, all under load: what was
//! acknowledged stays, once, at one offset, and nobody has to do more than start the broker again.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;
use trimaran_tests::process::{
    Cluster, ClusterOptions, KafkaClient, Load, LoadOptions, announce, get, run_with_input, wait_until,
};

const TOPIC: &str = "repaired";

fn load(cluster: &Cluster, partitions: i32, settings: &[(&str, &str)]) -> Load {
    let client = KafkaClient::new(cluster.clients());
    let settings = [&[("min.insync.replicas", "2")], settings].concat();
    client
        .create_topic(TOPIC, partitions, 3, &settings)
        .expect("a topic can be created");
    let load = Load::start(
        cluster.clients(),
        LoadOptions {
            topic: TOPIC.to_owned(),
            partitions,
            producers: 2,
            pace: Duration::from_millis(2),
        },
    );
    goes_on(&load, partitions);
    load
}

fn goes_on(load: &Load, partitions: i32) {
    for partition in 0..partitions {
        load.wait_acknowledged(partition, 20);
    }
}

/// The brokers that a partition is on, and those in sync, as one broker tells.
fn replicas(cluster: &Cluster, asked: usize, partition: i32) -> Option<(BTreeSet<i32>, BTreeSet<i32>)> {
    let client = KafkaClient::new(cluster.clients());
    let metadata = client.metadata(cluster.clients()[asked], TOPIC).ok()?;
    let topic = metadata.topics.first()?;
    let found = topic
        .partitions
        .iter()
        .find(|found| found.partition_index == partition)?;
    let ids = |nodes: &[kafka_protocol::messages::BrokerId]| nodes.iter().map(|id| id.0).collect();
    Some((ids(&found.replica_nodes), ids(&found.isr_nodes)))
}

/// Waits until every broker says that every partition has all of its three replicas in sync.
#[track_caller]
fn wait_whole(cluster: &Cluster, partitions: i32) {
    wait_until("all replicas are in sync", || {
        let whole = |asked, partition| {
            replicas(cluster, asked, partition).is_some_and(|(placed, in_sync)| placed.len() == 3 && placed == in_sync)
        };
        let all = (0..cluster.brokers.len()).all(|asked| (0..partitions).all(|partition| whole(asked, partition)));
        all.then_some(())
    });
}

/// The value of a metric without labels.
fn metric(cluster: &Cluster, broker: u32, name: &str) -> Option<f64> {
    let broker = cluster.brokers.iter().find(|found| found.id == broker)?;
    let text = get(broker.admin, "/metrics").ok()?.body;
    let line = text.lines().find(|line| line.split(' ').next() == Some(name))?;
    line.split(' ').nth(1)?.parse().ok()
}

/// Waits until a broker has found something lost, and has nothing to repair any more.
#[track_caller]
fn wait_repaired(cluster: &Cluster, broker: u32) -> f64 {
    wait_until(&format!("broker {broker} is whole again"), || {
        let lost = metric(cluster, broker, "trimaran_replicas_lost_total")?;
        let repairing = metric(cluster, broker, "trimaran_replicas_repairing")?;
        (lost > 0.0 && repairing == 0.0).then_some(lost)
    })
}

/// The command line's own client, which must succeed.
#[track_caller]
fn trimaran(cluster: &Cluster, arguments: &[&str]) -> String {
    let bootstrap = cluster.bootstrap();
    let arguments = [arguments, &["--bootstrap", &bootstrap, "--timeout-ms", "120000"]].concat();
    let output = run_with_input(&arguments, b"");
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{arguments:?}: {}", said(&output.stderr));
    said(&output.stdout)
}

#[test]
fn every_broker_in_turn_loses_its_disk() {
    const PARTITIONS: i32 = 3;
    let mut cluster = Cluster::start();
    let load = load(&cluster, PARTITIONS, &[]);
    for victim in [3, 1, 2] {
        let broker = cluster.broker(victim);
        broker.kill();
        fs::remove_dir_all(broker.data_path()).expect("a data folder can be deleted");
        goes_on(&load, PARTITIONS);
        cluster.broker(victim).start();
        cluster.wait_ready();
        let lost = wait_repaired(&cluster, victim);
        assert!(lost >= f64::from(PARTITIONS) + 1.0, "the metadata group is one of them");
        wait_whole(&cluster, PARTITIONS);
        goes_on(&load, PARTITIONS);
    }
    // What each of them holds now came from others that have lost their disks since.
    for victim in [1, 2, 3] {
        cluster.broker(victim).kill();
        goes_on(&load, PARTITIONS);
        cluster.broker(victim).start();
        cluster.wait_ready();
        wait_whole(&cluster, PARTITIONS);
    }
    let tally = load.finish().unwrap_or_else(|violation| panic!("{violation}"));
    announce(&format!("three disks lost, one after the other: {tally:?}"));
}

/// Copies the files of a folder.
fn copy_files(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder can be made");
    for file in fs::read_dir(from).expect("a journal").flatten() {
        fs::copy(file.path(), to.join(file.file_name())).expect("a file can be copied");
    }
}

/// The journal goes, everything else stays, and something lies in its place: two brokers in turn.
#[test]
fn a_lost_journal_is_noticed_whatever_else_is_there() {
    const PARTITIONS: i32 = 3;
    let mut cluster = Cluster::with(&small_memory());
    let load = load(&cluster, PARTITIONS, &[]);
    for victim in [3, 1] {
        let broker = cluster.broker(victim);
        broker.kill();
        let journal = broker.data_path().join("journal");
        fs::remove_dir_all(&journal).expect("a journal can be deleted");
        fs::create_dir_all(journal.join("lost+found")).expect("as on a disk of its own");
        goes_on(&load, PARTITIONS);
        cluster.broker(victim).start();
        cluster.wait_ready();
        let lost = wait_repaired(&cluster, victim);
        assert!(lost >= f64::from(PARTITIONS) + 1.0, "the metadata group is one of them");
        assert!(
            cluster
                .broker(victim)
                .log()
                .contains("journal of this data folder is gone")
        );
        wait_whole(&cluster, PARTITIONS);
        goes_on(&load, PARTITIONS);
    }
    for victim in [1, 2, 3] {
        cluster.broker(victim).kill();
        goes_on(&load, PARTITIONS);
        cluster.broker(victim).start();
        cluster.wait_ready();
        wait_whole(&cluster, PARTITIONS);
    }
    let tally = load.finish().unwrap_or_else(|violation| panic!("{violation}"));
    announce(&format!("two journals lost, one after the other: {tally:?}"));
}

/// An older copy of the journal is refused; without it, the broker is filled again, as the error says.
#[test]
fn an_old_journal_brought_back_is_refused() {
    const PARTITIONS: i32 = 2;
    const VICTIM: u32 = 2;
    let mut cluster = Cluster::with(&small_memory());
    let load = load(&cluster, PARTITIONS, &[]);
    let data = cluster.broker(VICTIM).data_path();
    let (journal, copy) = (data.join("journal"), data.join("copy"));
    cluster.broker(VICTIM).kill();
    copy_files(&journal, &copy);
    cluster.broker(VICTIM).start();
    cluster.wait_ready();
    wait_whole(&cluster, PARTITIONS);
    goes_on(&load, PARTITIONS);
    cluster.broker(VICTIM).kill();
    fs::remove_dir_all(&journal).expect("a journal can be deleted");
    fs::rename(&copy, &journal).expect("a copy can be put in its place");
    cluster.broker(VICTIM).start();
    assert!(!cluster.broker(VICTIM).wait().success());
    let log = cluster.broker(VICTIM).log();
    assert!(log.contains("is not this data folder's latest journal"), "{log}");
    assert!(log.contains("move `journal` away and start again"), "{log}");
    fs::rename(&journal, &copy).expect("a journal can be moved away");
    cluster.broker(VICTIM).start();
    cluster.wait_ready();
    wait_repaired(&cluster, VICTIM);
    wait_whole(&cluster, PARTITIONS);
    goes_on(&load, PARTITIONS);
    let tally = load.finish().unwrap_or_else(|violation| panic!("{violation}"));
    announce(&format!("an old journal brought back: {tally:?}"));
}

/// Segments of a broker's replicas of partitions, the metadata group's excepted, with so many bytes at least.
fn segments(data: &Path, least: u64) -> Vec<PathBuf> {
    let list = |folder: &Path| {
        fs::read_dir(folder)
            .map(|found| found.flatten().collect::<Vec<_>>())
            .unwrap_or_default()
    };
    let groups = list(&data.join("partitions"));
    let groups = groups.iter().filter(|folder| folder.file_name() != "group-0");
    let files = groups.flat_map(|folder| list(&folder.path()));
    let large = files.filter(|file| file.metadata().is_ok_and(|about| about.len() >= least));
    let mut logs: Vec<PathBuf> = large.map(|file| file.path()).collect();
    logs.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
    logs.sort();
    logs
}

fn small_memory() -> ClusterOptions {
    ClusterOptions {
        settings: vec![
            "limits.tail_bytes = 0".to_owned(),
            "limits.flush_bytes = 4096".to_owned(),
            "limits.journal_file_bytes = 65536".to_owned(),
            "limits.journal_files = 2".to_owned(),
        ],
        ..ClusterOptions::default()
    }
}

#[track_caller]
fn wait_for_segments(cluster: &mut Cluster, broker: u32, bytes: u64) -> PathBuf {
    let data = cluster.broker(broker).data_path();
    wait_until("segments are written", || segments(&data, bytes).into_iter().next())
}

/// Waits until nothing is left of what was damaged.
#[track_caller]
fn wait_tidy(cluster: &mut Cluster, broker: u32) {
    let partitions = cluster.broker(broker).data_path().join("partitions");
    let aside = |path: &Path| path.extension().is_some_and(|extension| extension == "damaged");
    wait_until("what was set aside is deleted", || {
        let groups = fs::read_dir(&partitions).ok()?.flatten();
        let mut files = groups.flat_map(|group| fs::read_dir(group.path()).into_iter().flatten().flatten());
        (!files.any(|file| aside(&file.path()))).then_some(())
    });
}

#[test]
fn a_segment_that_was_cut_is_repaired_at_the_next_start() {
    const PARTITIONS: i32 = 2;
    let mut cluster = Cluster::with(&small_memory());
    let load = load(&cluster, PARTITIONS, &[]);
    // So much that the journal does not hold what is cut off any more, and could not give it back.
    let segment = wait_for_segments(&mut cluster, 2, 200_000);
    goes_on(&load, PARTITIONS);
    cluster.broker(2).kill();
    let file = fs::OpenOptions::new()
        .write(true)
        .open(&segment)
        .expect("a segment opens");
    file.set_len(7_000).expect("a segment can be cut");
    goes_on(&load, PARTITIONS);
    cluster.broker(2).start();
    cluster.wait_ready();
    wait_repaired(&cluster, 2);
    wait_whole(&cluster, PARTITIONS);
    wait_tidy(&mut cluster, 2);
    let said = cluster.broker(2).log();
    let name = segment.file_stem().and_then(|name| name.to_str()).expect("a name");
    assert!(
        said.contains("is damaged") && said.contains(name),
        "the log names the file"
    );
    load.finish().unwrap_or_else(|violation| panic!("{violation}"));
}

#[test]
fn a_segment_that_rots_is_repaired_when_it_is_read() {
    const PARTITIONS: i32 = 1;
    let mut cluster = Cluster::with(&small_memory());
    let load = load(&cluster, PARTITIONS, &[]);
    let client = KafkaClient::new(cluster.clients());
    let leader = || client.leader(TOPIC, 0).and_then(|leader| u32::try_from(leader.id).ok());
    let victim = wait_until("a partition has a leader", leader);
    let segment = wait_for_segments(&mut cluster, victim, 20_000);
    let mut bytes = fs::read(&segment).expect("a segment can be read");
    // Within the records of some batch: every other byte of it is as it was.
    for at in [3_000, 9_000, 15_000] {
        bytes[at] ^= 0x10;
    }
    let file = fs::OpenOptions::new()
        .write(true)
        .open(&segment)
        .expect("a segment opens");
    std::os::unix::fs::FileExt::write_all_at(&file, &bytes[..20_000], 0).expect("a segment can be written");
    // Whoever reads from the beginning is served by another replica; errors on the way are no end.
    wait_until("the damage is found", || {
        let _ = client.read_all(TOPIC, 0);
        metric(&cluster, victim, "trimaran_replicas_lost_total").filter(|lost| *lost > 0.0)
    });
    wait_repaired(&cluster, victim);
    wait_whole(&cluster, PARTITIONS);
    goes_on(&load, PARTITIONS);
    wait_tidy(&mut cluster, victim);
    wait_until("everything can be read", || client.read_all(TOPIC, 0).ok());
    assert!(cluster.broker(victim).log().contains("is damaged"));
    load.finish().unwrap_or_else(|violation| panic!("{violation}"));
}

/// One partition's folder is gone at one broker, with a file in its place.
#[test]
fn a_folder_that_can_not_be_written_costs_one_replica_and_no_broker() {
    const PARTITIONS: i32 = 2;
    let mut cluster = Cluster::with(&small_memory());
    let load = load(&cluster, PARTITIONS, &[]);
    let client = KafkaClient::new(cluster.clients());
    let leader = || client.leader(TOPIC, 0).and_then(|leader| u32::try_from(leader.id).ok());
    let victim = wait_until("a partition has a leader", leader);
    let segment = wait_for_segments(&mut cluster, victim, 20_000);
    let folder = segment.parent().expect("a folder").to_owned();
    fs::rename(&folder, folder.with_extension("away")).expect("a folder can be moved");
    fs::write(&folder, "in the way").expect("a file can be written");
    wait_until("the broker can't write it", || {
        metric(&cluster, victim, "trimaran_flush_failures_total").filter(|failures| *failures > 0.0)
    });
    goes_on(&load, PARTITIONS);
    // Pauses of 5, 10, 20 and 40 seconds lie between the attempts.
    wait_until("it has tried four times", || {
        metric(&cluster, victim, "trimaran_flush_failures_total").filter(|failures| *failures >= 4.0)
    });
    wait_until("its group does without it", || {
        metric(&cluster, victim, "trimaran_replicas_repairing").filter(|repairing| *repairing > 0.0)
    });
    goes_on(&load, PARTITIONS);
    assert!(cluster.broker(victim).is_running());
    assert!(cluster.broker(victim).is_ready(), "one bad folder is no reason to stop");
    let journal = cluster.broker(victim).data_path().join("journal");
    wait_until("the journal's files go round again", || {
        let files = fs::read_dir(&journal).ok()?.flatten();
        let bytes = files.filter_map(|file| file.metadata().ok()).map(|about| about.len());
        (bytes.sum::<u64>() < 20 * 65_536).then_some(())
    });
    fs::remove_file(&folder).expect("a file can be removed");
    wait_repaired(&cluster, victim);
    wait_whole(&cluster, PARTITIONS);
    goes_on(&load, PARTITIONS);
    let said = cluster.broker(victim).log();
    assert!(
        said.contains("a replica's records can't be written"),
        "the log says why"
    );
    load.finish().unwrap_or_else(|violation| panic!("{violation}"));
}

#[test]
fn partitions_move_to_other_brokers_under_load() {
    const PARTITIONS: i32 = 2;
    let options = ClusterOptions {
        brokers: 5,
        ..ClusterOptions::default()
    };
    let mut cluster = Cluster::with(&options);
    let load = load(&cluster, PARTITIONS, &[]);
    for target in [[3, 4, 5], [5, 1, 2], [2, 3, 4]] {
        let list = target.map(|id: i32| id.to_string()).join(",");
        trimaran(&cluster, &["topic", "reassign", TOPIC, "--replicas", &list, "--wait"]);
        let wanted = BTreeSet::from(target);
        for partition in 0..PARTITIONS {
            wait_until("a partition is where it was to be", || {
                let everywhere = (0..cluster.brokers.len())
                    .all(|asked| replicas(&cluster, asked, partition) == Some((wanted.clone(), wanted.clone())));
                everywhere.then_some(())
            });
        }
        goes_on(&load, PARTITIONS);
    }
    trimaran(&cluster, &["cluster", "drain", "4", "--wait"]);
    goes_on(&load, PARTITIONS);
    // Where they are no more, nothing of them is left.
    let anywhere = |broker: i32| {
        (0..PARTITIONS).any(|partition| replicas(&cluster, 0, partition).is_some_and(|(on, _)| on.contains(&broker)))
    };
    assert!(!anywhere(4), "it was drained");
    let gone: Vec<u32> = (1..=5).filter(|id| !anywhere(*id)).map(i32::unsigned_abs).collect();
    for gone in gone {
        let partitions = cluster.broker(gone).data_path().join("partitions");
        wait_until("replicas that moved away are deleted", || {
            let folders = fs::read_dir(&partitions).ok()?;
            folders
                .flatten()
                .map(|folder| folder.file_name().to_string_lossy().into_owned())
                .all(|name| name == "group-0" || !name.starts_with("group-"))
                .then_some(())
        });
    }
    let said = trimaran(&cluster, &["topic", "reassign", TOPIC]);
    assert!(said.contains("nothing is under way"), "{said}");
    let tally = load.finish().unwrap_or_else(|violation| panic!("{violation}"));
    announce(&format!("two partitions, moved three times: {tally:?}"));
}
