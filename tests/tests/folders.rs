//! Data folders that are not the ones that their brokers had last, clocks that were set back, and two processes with one
//! broker's id: what was acknowledged stays, and the operator is told.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use trimaran_tests::process::{
    BrokerProcess, Cluster, ClusterOptions, KafkaClient, Load, LoadOptions, binary, free_port, get, wait_until,
};

const TOPIC: &str = "kept";

/// One partition on brokers 1, 2 and 3, and producers that wait for two disks.
fn load(cluster: &Cluster) -> Load {
    let client = KafkaClient::new(cluster.clients());
    client
        .create_topic(TOPIC, 1, 3, &[("min.insync.replicas", "2")])
        .expect("a topic can be created");
    let load = Load::start(
        cluster.clients(),
        LoadOptions {
            topic: TOPIC.to_owned(),
            partitions: 1,
            producers: 2,
            pace: Duration::from_millis(2),
        },
    );
    load.wait_acknowledged(0, 100);
    load
}

/// The value of a metric without labels.
fn metric(broker: &BrokerProcess, name: &str) -> Option<f64> {
    let text = get(broker.admin, "/metrics").ok()?.body;
    let line = text.lines().find(|line| line.split(' ').next() == Some(name))?;
    line.split(' ').nth(1)?.parse().ok()
}

/// Waits until every broker says that all three replicas are in sync.
#[track_caller]
fn wait_whole(cluster: &Cluster) {
    let client = KafkaClient::new(cluster.clients());
    let in_sync = |asked: usize| {
        let metadata = client.metadata(cluster.clients()[asked], TOPIC).ok()?;
        let partition = metadata.topics.first()?.partitions.first()?;
        Some(partition.isr_nodes.iter().map(|id| id.0).collect::<BTreeSet<_>>())
    };
    wait_until("all replicas are in sync", || {
        (0..3)
            .all(|asked| in_sync(asked) == Some(BTreeSet::from([1, 2, 3])))
            .then_some(())
    });
}

/// Waits until a broker has nothing to repair any more.
#[track_caller]
fn wait_repaired(broker: &BrokerProcess) {
    wait_until(&format!("broker {} is whole again", broker.id), || {
        let lost = metric(broker, "trimaran_replicas_lost_total")?;
        (lost > 0.0 && metric(broker, "trimaran_replicas_repairing")? == 0.0).then_some(())
    });
}

fn stop(broker: &mut BrokerProcess) {
    broker.terminate();
    assert!(broker.wait().success(), "broker {} stops as it is told to", broker.id);
}

fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").arg(from).arg(to).status();
    assert!(status.expect("cp runs").success());
}

/// Broker 1 is given a folder that lacks what was acknowledged with its help, and starts together with broker 3, which lacks
/// it too: broker 2 alone has it, and is down.
fn comes_back_with(mut cluster: Cluster, load: Load, folder: &Path) {
    stop(cluster.broker(3));
    load.wait_acknowledged(0, 100);
    stop(cluster.broker(2));
    stop(cluster.broker(1));
    let data = cluster.broker(1).data_path();
    fs::remove_dir_all(&data).expect("a data folder can be deleted");
    fs::rename(folder, &data).expect("a data folder can be moved");
    cluster.broker(1).start();
    cluster.broker(3).start();
    let before = load.acknowledged(0);
    wait_until("broker 1 says that its folder is too old", || {
        let said = cluster.broker(1).log();
        said.contains("the data folder is older than what this broker has promised")
            .then_some(())
    });
    wait_until("broker 3 says so, too", || {
        let said = cluster.broker(3).log();
        said.contains("a broker comes with another data folder than before")
            .then_some(())
    });
    // They are two of three, and decide nothing.
    wait_until("both have found each other", || {
        [1, 3]
            .iter()
            .all(|id| metric(cluster.broker(*id), "trimaran_brokers_alive") == Some(2.0))
            .then_some(())
    });
    assert_eq!(load.acknowledged(0), before);
    assert!(!cluster.broker(1).is_ready());
    cluster.broker(2).start();
    cluster.wait_ready();
    wait_repaired(cluster.broker(1));
    wait_whole(&cluster);
    load.wait_acknowledged(0, 20);
    assert!(
        data.join("journal.former").exists(),
        "what the journal held is set aside"
    );
    load.finish().unwrap_or_else(|violation| panic!("{violation}"));
}

#[test]
fn a_former_folder_brings_nothing_back() {
    let mut cluster = Cluster::start();
    let load = load(&cluster);
    let data = cluster.broker(1).data_path();
    let former = data.with_extension("former");
    stop(cluster.broker(1));
    fs::rename(&data, &former).expect("a data folder can be moved away");
    cluster.broker(1).start();
    cluster.wait_ready();
    wait_repaired(cluster.broker(1));
    wait_whole(&cluster);
    comes_back_with(cluster, load, &former);
}

#[test]
fn an_old_copy_of_the_own_folder_brings_nothing_back() {
    let mut cluster = Cluster::start();
    let load = load(&cluster);
    let data = cluster.broker(1).data_path();
    let old = data.with_extension("old");
    stop(cluster.broker(1));
    copy(&data, &old);
    cluster.broker(1).start();
    cluster.wait_ready();
    wait_whole(&cluster);
    comes_back_with(cluster, load, &old);
}

/// The peer that knows of the later start is reached only when the broker runs already.
#[test]
fn an_old_copy_is_found_out_late_too() {
    let mut cluster = Cluster::start();
    let load = load(&cluster);
    let data = cluster.broker(1).data_path();
    let old = data.with_extension("old");
    stop(cluster.broker(1));
    copy(&data, &old);
    cluster.broker(1).start();
    cluster.wait_ready();
    wait_whole(&cluster);
    for id in [3, 2, 1] {
        stop(cluster.broker(id));
    }
    fs::remove_dir_all(&data).expect("a data folder can be deleted");
    fs::rename(&old, &data).expect("a data folder can be moved");
    cluster.broker(1).start();
    wait_until("broker 1 does not wait for the others any longer", || {
        get(cluster.broker(1).admin, "/health/live").ok()
    });
    cluster.broker(2).start();
    assert!(!cluster.broker(1).wait().success());
    let said = cluster.broker(1).log();
    assert!(
        said.contains("broker-2 has seen") && said.contains("Start the broker again"),
        "{said}"
    );
    cluster.broker(1).start();
    cluster.broker(3).start();
    cluster.wait_ready();
    wait_repaired(cluster.broker(1));
    wait_whole(&cluster);
    load.wait_acknowledged(0, 20);
    load.finish().unwrap_or_else(|violation| panic!("{violation}"));
}

/// As if the clock had been wrong when the folder was made, and were right now.
fn set_incarnation_ahead(data: &Path) {
    let file = data.join("identity.toml");
    let text = fs::read_to_string(&file).expect("a description can be read");
    let ahead = |line: &str| match line.split_once(" = ") {
        Some(("incarnation", _)) => "incarnation = 4102444800000\n".to_owned(), // the year 2100
        Some(("checksum", _)) => String::new(),
        _ => format!("{line}\n"),
    };
    let text: String = text.lines().map(ahead).collect();
    let says_something = |line: &&str| !line.starts_with('#');
    let sum = text.lines().filter(says_something).fold(0, |sum, line| {
        crc32c::crc32c_append(crc32c::crc32c_append(sum, line.as_bytes()), b"\n")
    });
    fs::write(&file, format!("{text}checksum = \"{sum:08x}\"\n")).expect("a description can be written");
}

#[test]
fn a_new_folder_starts_though_the_clock_was_ahead_when_its_predecessor_did() {
    let mut cluster = Cluster::start();
    let load = load(&cluster);
    let data = cluster.broker(2).data_path();
    stop(cluster.broker(2));
    set_incarnation_ahead(&data);
    // A journal of an earlier start beside that description would be an old one, and refused.
    fs::remove_dir_all(data.join("journal")).expect("a journal can be deleted");
    cluster.broker(2).start();
    cluster.wait_ready();
    wait_repaired(cluster.broker(2));
    wait_whole(&cluster);
    for _ in 0..2 {
        cluster.broker(2).kill();
        fs::remove_dir_all(&data).expect("a data folder can be deleted");
        cluster.broker(2).start();
        cluster.wait_ready();
        wait_repaired(cluster.broker(2));
        wait_whole(&cluster);
        load.wait_acknowledged(0, 20);
    }
    load.finish().unwrap_or_else(|violation| panic!("{violation}"));
}

/// `trimaran broker` with another broker's configuration, but ports and a data folder of its own.
fn twin_of(broker: &BrokerProcess, folder: &Path) -> Command {
    let mut command = Command::new(binary());
    command.args(["broker", "--config"]).arg(broker.config_path());
    command.arg("--broker-data").arg(folder);
    for listener in ["client", "peer", "admin"] {
        let address = format!("127.0.0.1:{}", free_port());
        command.arg(format!("--listeners-{listener}")).arg(address);
    }
    command.stdin(Stdio::null()).env_remove("TRIMARAN_CONFIG");
    command
}

#[test]
fn a_second_process_with_a_brokers_id_is_refused_and_the_first_goes_on() {
    let mut cluster = Cluster::with(&ClusterOptions::default());
    let load = load(&cluster);
    wait_whole(&cluster);
    let arrivals = |cluster: &mut Cluster| -> usize {
        let count = |id| cluster.broker(id).log().matches("a peer arrived").count();
        [1, 2, 3].map(count).iter().sum()
    };
    let before = arrivals(&mut cluster);
    let folder = cluster.folder().join("twin");
    let output = twin_of(cluster.broker(2), &folder)
        .output()
        .expect("the trimaran binary starts");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("another process runs as broker 2") && said.contains("broker.id"),
        "{said}"
    );
    let told = |cluster: &mut Cluster, id: u32| cluster.broker(id).log().contains("a second process wants to start");
    assert!(told(&mut cluster, 1) && told(&mut cluster, 3), "the peers say so");
    assert!(told(&mut cluster, 2), "the process that is meant says so");
    assert!(cluster.broker(2).is_running() && cluster.broker(2).is_ready());
    assert_eq!(arrivals(&mut cluster), before, "no connection was taken away");
    wait_whole(&cluster);
    load.wait_acknowledged(0, 20);
    for id in [1, 2, 3] {
        assert_eq!(metric(cluster.broker(id), "trimaran_brokers_alive"), Some(3.0));
    }
    // A replacement is what it would be if the first were dead.
    cluster.broker(2).kill();
    let data = cluster.broker(2).data_path();
    fs::remove_dir_all(&data).expect("a data folder can be deleted");
    cluster.broker(2).start();
    cluster.wait_ready();
    wait_repaired(cluster.broker(2));
    wait_whole(&cluster);
    load.wait_acknowledged(0, 20);
    load.finish().unwrap_or_else(|violation| panic!("{violation}"));
}
