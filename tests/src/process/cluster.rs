//! A cluster of processes.

use super::log::LogPipe;
use super::{binary, free_port, get, wait_until};
use rustix::process::{Pid, Signal, kill_process};
use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use tempfile::TempDir;

/// What a cluster is.
#[derive(Clone, Debug)]
pub struct ClusterOptions {
    /// How many brokers.
    pub brokers: u32,
    /// Lines for every broker's configuration file, as `table.key = value` in TOML's dotted form.
    pub settings: Vec<String>,
    /// A rack for each broker, by its place; brokers beyond have none.
    pub racks: Vec<String>,
    /// The program; none for the one of [`binary()`].
    pub binary: Option<PathBuf>,
    /// Logs come through pipes, whose readers can stall: [`BrokerProcess::stall_log`].
    pub piped_logs: bool,
}

impl Default for ClusterOptions {
    fn default() -> ClusterOptions {
        ClusterOptions {
            brokers: 3,
            settings: Vec::new(),
            racks: Vec::new(),
            binary: None,
            piped_logs: false,
        }
    }
}

/// One broker: its folder and ports stay, its process comes and goes.
#[derive(Debug)]
pub struct BrokerProcess {
    /// Its id.
    pub id: u32,
    /// Where Kafka clients connect.
    pub client: SocketAddr,
    /// Where other brokers connect.
    pub peer: SocketAddr,
    /// Where the administration port is.
    pub admin: SocketAddr,
    folder: PathBuf,
    binary: PathBuf,
    child: Option<Child>,
    has_piped_log: bool,
    log_pipe: Option<LogPipe>,
}

impl BrokerProcess {
    /// Starts the process; see [`Cluster::wait_ready`].
    ///
    /// # Panics
    /// If it runs already, or does not start.
    pub fn start(&mut self) {
        assert!(self.child.is_none(), "broker {} runs already", self.id);
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log_path())
            .expect("a log file opens");
        let stdout = log.try_clone().expect("a file can be shared");
        let stderr = if self.has_piped_log {
            let (pipe, writer) = LogPipe::into_file(log).expect("a pipe can be made");
            self.log_pipe = Some(pipe);
            Stdio::from(writer)
        } else {
            Stdio::from(log)
        };
        self.child = Some(
            command(&self.binary, &self.config_path())
                .stdout(Stdio::from(stdout))
                .stderr(stderr)
                .spawn()
                .expect("the trimaran binary starts"),
        );
    }

    /// The reader of its log stands still, as long as the process lives and [`BrokerProcess::resume_log`] is not
    /// called.
    ///
    /// # Panics
    /// If its log does not come through a pipe.
    pub fn stall_log(&self) {
        self.log_pipe.as_ref().expect("a piped log").set_stalled(true);
    }

    /// Its log is read again.
    pub fn resume_log(&self) {
        if let Some(pipe) = &self.log_pipe {
            pipe.set_stalled(false);
        }
    }

    /// The process's id, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Where its configuration is.
    pub fn config_path(&self) -> PathBuf {
        self.folder.join("broker.toml")
    }

    /// Where its data is.
    pub fn data_path(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// Where what it says is.
    pub fn log_path(&self) -> PathBuf {
        self.folder.join("broker.log")
    }

    /// Everything it said so far.
    pub fn log(&self) -> String {
        fs::read(self.log_path())
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// Whether its process runs.
    pub fn is_running(&mut self) -> bool {
        match &mut self.child {
            Some(child) => matches!(child.try_wait(), Ok(None)),
            None => false,
        }
    }

    /// How it ended, if it was started and has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        let status = self.child.as_mut()?.try_wait().ok().flatten()?;
        self.child = None;
        Some(status)
    }

    /// kill -9, and reaps it.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // An error says that it is gone already.
            drop(child.kill());
            drop(child.wait());
        }
    }

    /// Sends SIGKILL and does not wait: for killing several at once.
    pub fn kill_now(&self) {
        self.signal(Signal::KILL);
    }

    /// SIGSTOP.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// SIGCONT.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// SIGHUP.
    pub fn hang_up(&self) {
        self.signal(Signal::HUP);
    }

    /// SIGTERM.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Waits for the process to end by itself.
    pub fn wait(&mut self) -> ExitStatus {
        let id = self.id;
        let child = self.child.as_mut().expect("a process to wait for");
        let status = wait_until(&format!("broker {id} ends"), || child.try_wait().ok().flatten());
        self.child = None;
        status
    }

    /// Whether the administration port says that it is ready.
    pub fn is_ready(&self) -> bool {
        get(self.admin, "/health/ready").is_ok_and(|reply| reply.status == 200)
    }

    /// Resident memory in KiB, as the system counts it; none if it does not run.
    pub fn resident_kib(&self) -> Option<u64> {
        self.status_kib("VmRSS:")
    }

    /// The most that it ever was.
    pub fn peak_resident_kib(&self) -> Option<u64> {
        self.status_kib("VmHWM:")
    }

    fn status_kib(&self, field: &str) -> Option<u64> {
        let pid = self.child.as_ref()?.id();
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = status.lines().find(|line| line.starts_with(field))?;
        line.split_whitespace().nth(1)?.parse().ok()
    }

    fn signal(&self, signal: Signal) {
        if let Some(child) = &self.child {
            kill_process(Pid::from_child(child), signal).expect("a child of ours can be signalled");
        }
    }
}

impl Drop for BrokerProcess {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let from = lines.len().saturating_sub(40);
            eprintln!("--- the end of broker {}'s log:", self.id);
            lines[from..].iter().for_each(|line| eprintln!("{line}"));
        }
    }
}

/// `trimaran broker` with this configuration file, and nothing else from the test's surroundings.
fn command(binary: &Path, config: &Path) -> Command {
    let mut command = Command::new(binary);
    command
        .args(["broker", "--config"])
        .arg(config)
        .stdin(Stdio::null())
        .env_remove("TRIMARAN_CONFIG");
    command
}

/// Brokers with everything they need, in a folder of their own that goes with them.
#[derive(Debug)]
pub struct Cluster {
    /// The brokers, by their ids from one on.
    pub brokers: Vec<BrokerProcess>,
    /// How many of them, from the first on, founded the cluster.
    founders: usize,
    folder: TempDir,
}

impl Cluster {
    /// Starts three brokers, and waits until they are ready.
    pub fn start() -> Cluster {
        Cluster::with(&ClusterOptions::default())
    }

    /// Starts brokers as asked for, and waits until they are ready.
    pub fn with(options: &ClusterOptions) -> Cluster {
        let mut cluster = Cluster::prepare(options);
        cluster.brokers.iter_mut().for_each(BrokerProcess::start);
        cluster.wait_ready();
        cluster
    }

    /// Makes folders and configuration files, and starts nothing.
    ///
    /// # Panics
    /// If there is no place for them.
    pub fn prepare(options: &ClusterOptions) -> Cluster {
        Cluster::prepare_routed(options, |_, to| to.peer)
    }

    /// The same; each broker is told by `route` at which address it reaches each other one.
    ///
    /// # Panics
    /// As [`Cluster::prepare`].
    pub fn prepare_routed(
        options: &ClusterOptions,
        mut route: impl FnMut(&BrokerProcess, &BrokerProcess) -> SocketAddr,
    ) -> Cluster {
        let folder = TempDir::with_prefix("trimaran-test-").expect("a temporary folder");
        let program = options.binary.clone().unwrap_or_else(|| binary().to_path_buf());
        let address = || SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let brokers: Vec<BrokerProcess> = (1..=options.brokers)
            .map(|id| BrokerProcess {
                id,
                client: address(),
                peer: address(),
                admin: address(),
                folder: folder.path().join(format!("broker-{id}")),
                binary: program.clone(),
                child: None,
                has_piped_log: options.piped_logs,
                log_pipe: None,
            })
            .collect();
        for (at, broker) in brokers.iter().enumerate() {
            let voters: Vec<String> = brokers
                .iter()
                .map(|other| {
                    let peer = if other.id == broker.id {
                        other.peer
                    } else {
                        route(broker, other)
                    };
                    format!("{}@{peer}", other.id)
                })
                .collect();
            fs::create_dir_all(&broker.folder).expect("a broker's folder can be made");
            let rack = options.racks.get(at).map(String::as_str);
            let config = config(broker, rack, &voters, &options.settings);
            fs::write(broker.config_path(), config).expect("a configuration file can be written");
        }
        let founders = brokers.len();
        Cluster {
            brokers,
            founders,
            folder,
        }
    }

    /// Makes folder and configuration of one more broker, which the others' configurations don't list: it is told that
    /// they founded the cluster. Starts nothing.
    ///
    /// # Panics
    /// If there is no place for it.
    pub fn add_newcomer(&mut self, settings: &[String]) -> u32 {
        let id = self.brokers.iter().map(|broker| broker.id).max().unwrap_or(0) + 1;
        let address = || SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let newcomer = BrokerProcess {
            id,
            client: address(),
            peer: address(),
            admin: address(),
            folder: self.folder.path().join(format!("broker-{id}")),
            binary: self
                .brokers
                .first()
                .map_or_else(|| binary().to_path_buf(), |first| first.binary.clone()),
            child: None,
            has_piped_log: false,
            log_pipe: None,
        };
        let founders = self.brokers.iter().take(self.founders);
        let voters: Vec<String> = founders
            .map(|broker| format!("{}@{}", broker.id, broker.peer))
            .collect();
        fs::create_dir_all(&newcomer.folder).expect("a broker's folder can be made");
        let config = config(&newcomer, None, &voters, settings);
        fs::write(newcomer.config_path(), config).expect("a configuration file can be written");
        self.brokers.push(newcomer);
        id
    }

    /// Waits until every broker whose process was started is ready.
    #[track_caller]
    pub fn wait_ready(&mut self) {
        for broker in &mut self.brokers {
            if broker.child.is_none() {
                continue;
            }
            let id = broker.id;
            wait_until(&format!("broker {id} is ready"), || {
                assert!(broker.is_running(), "broker {id} ended by itself");
                broker.is_ready().then_some(())
            });
        }
    }

    /// The broker of this id.
    ///
    /// # Panics
    /// If there is none.
    pub fn broker(&mut self, id: u32) -> &mut BrokerProcess {
        self.brokers
            .iter_mut()
            .find(|broker| broker.id == id)
            .expect("a broker of this cluster")
    }

    /// All client addresses.
    pub fn clients(&self) -> Vec<SocketAddr> {
        self.brokers.iter().map(|broker| broker.client).collect()
    }

    /// All client addresses, as Kafka clients are given them.
    pub fn bootstrap(&self) -> String {
        let addresses: Vec<String> = self.brokers.iter().map(|broker| broker.client.to_string()).collect();
        addresses.join(",")
    }

    /// The cluster's folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Leaves the folder where it is when the cluster goes, and says where.
    pub fn keep_folder(&mut self) -> PathBuf {
        self.folder.disable_cleanup(true);
        self.folder.path().to_path_buf()
    }

    /// A new file in the cluster's folder, for what a tool says.
    ///
    /// # Panics
    /// If it can't be made.
    pub fn scratch(&self, name: &str) -> (PathBuf, File) {
        let path = self.folder.path().join(name);
        let file = File::create(&path).expect("a file can be made");
        (path, file)
    }
}

/// A broker's configuration file.
fn config(broker: &BrokerProcess, rack: Option<&str>, voters: &[String], settings: &[String]) -> String {
    let mut text = String::new();
    let mut line = |key: &str, value: &str| writeln!(text, "{key} = {value}").expect("a string takes everything");
    line("broker.id", &broker.id.to_string());
    if let Some(rack) = rack {
        line("broker.rack", &format!("{rack:?}"));
    }
    line("broker.data", &format!("{:?}", broker.data_path()));
    line("listeners.client", &format!("{:?}", broker.client.to_string()));
    line("listeners.peer", &format!("{:?}", broker.peer.to_string()));
    line("listeners.admin", &format!("{:?}", broker.admin.to_string()));
    line("cluster.id", "\"trimaran-test\"");
    line("cluster.voters", &format!("{:?}", voters.join(",")));
    for setting in settings {
        text.push_str(setting);
        text.push('\n');
    }
    text
}
