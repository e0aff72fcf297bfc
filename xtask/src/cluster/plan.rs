//! What a local cluster consists of: its brokers, their ports, folders and configuration. Written to `cluster.json` in
//! its folder, so that every later command finds the same cluster.

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

/// Between the ranges of ports for clients, peers and administration: the same as between a broker's defaults (9092,
/// 9192, 9292), and at the same time the most brokers that fit.
const RANGE: u16 = 100;

/// A pid file's name, in its broker's folder.
pub(crate) const PID_FILE: &str = "broker.pid";

/// The version of `cluster.json`.
const FORMAT: u32 = 1;

/// A cluster's plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Plan {
    format: u32,
    /// Tells this cluster from all others; chosen again by `--fresh`.
    pub(crate) cluster_id: String,
    pub(crate) base_port: u16,
    pub(crate) brokers: u16,
    /// Keys of the configuration's table `limits` that differ from their defaults.
    #[serde(default)]
    pub(crate) limits: BTreeMap<String, u64>,
}

/// What a port is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Client,
    Peer,
    Admin,
}

impl Purpose {
    const ALL: [Purpose; 3] = [Purpose::Client, Purpose::Peer, Purpose::Admin];

    fn words(self) -> &'static str {
        match self {
            Purpose::Client => "Kafka clients",
            Purpose::Peer => "the other brokers",
            Purpose::Admin => "administration",
        }
    }
}

impl Plan {
    /// A new cluster.
    ///
    /// # Errors
    /// The numbers don't fit.
    pub(crate) fn new(cluster_id: String, brokers: u16, base_port: u16) -> Result<Plan> {
        if !(1..=RANGE).contains(&brokers) {
            bail!("--brokers {brokers}: a local cluster has 1 to {RANGE} brokers");
        }
        let last = u32::from(base_port) + 2 * u32::from(RANGE) + u32::from(brokers) - 1;
        if base_port == 0 || last > u32::from(u16::MAX) {
            bail!(
                "--base-port {base_port}: ports from {base_port} to {last} are needed; choose 1 to {}",
                u16::MAX - 3 * RANGE
            );
        }
        Ok(Plan {
            format: FORMAT,
            cluster_id,
            base_port,
            brokers,
            limits: BTreeMap::new(),
        })
    }

    /// The plan of the cluster in a folder. None if there is none.
    pub(crate) fn read(folder: &Path) -> Result<Option<Plan>> {
        let file = plan_file(folder);
        let text = match fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("can't read {}", file.display())),
        };
        let plan: Plan = serde_json::from_str(&text).with_context(|| {
            format!(
                "{} is not as this version writes it; `up --fresh` begins anew",
                file.display()
            )
        })?;
        if plan.format != FORMAT {
            bail!(
                "{} is of format {}, not {FORMAT}; `up --fresh` begins anew",
                file.display(),
                plan.format
            );
        }
        Plan::new(plan.cluster_id.clone(), plan.brokers, plan.base_port)
            .with_context(|| format!("{} is damaged; `up --fresh` begins anew", file.display()))?;
        Ok(Some(plan))
    }

    /// Writes the plan and every broker's configuration.
    pub(crate) fn write(&self, folder: &Path) -> Result<()> {
        for broker in self.ids() {
            let home = Home::of(folder, broker);
            fs::create_dir_all(&home.folder).with_context(|| format!("can't create {}", home.folder.display()))?;
            let text = self.configuration(folder, broker);
            fs::write(&home.config, text).with_context(|| format!("can't write {}", home.config.display()))?;
        }
        let file = plan_file(folder);
        fs::write(&file, serde_json::to_string_pretty(self)? + "\n")
            .with_context(|| format!("can't write {}", file.display()))
    }

    /// The brokers' numbers, from one.
    pub(crate) fn ids(&self) -> impl Iterator<Item = u16> + use<> {
        1..=self.brokers
    }

    /// Where a broker listens.
    pub(crate) fn address(&self, broker: u16, purpose: Purpose) -> SocketAddr {
        let range = match purpose {
            Purpose::Client => 0,
            Purpose::Peer => RANGE,
            Purpose::Admin => 2 * RANGE,
        };
        (Ipv4Addr::LOCALHOST, self.base_port + range + broker - 1).into()
    }

    /// What clients are given.
    pub(crate) fn bootstrap(&self) -> String {
        let addresses = self
            .ids()
            .map(|broker| self.address(broker, Purpose::Client).to_string());
        addresses.collect::<Vec<_>>().join(",")
    }

    /// Whether a broker's ports are free.
    ///
    /// # Errors
    /// Says which is not, what it is for and what to do.
    pub(crate) fn check_ports(&self, brokers: impl Iterator<Item = u16>) -> Result<()> {
        for broker in brokers {
            for purpose in Purpose::ALL {
                let address = self.address(broker, purpose);
                if let Err(error) = TcpListener::bind(address) {
                    bail!(
                        "port {} is needed by broker {broker} for {}, and can't be had: {error}. Stop what uses it (`ss -ltnp \
                         'sport = :{}'` tells), or choose other ports with `--base-port`; {} to {} are needed",
                        address.port(),
                        purpose.words(),
                        address.port(),
                        self.base_port,
                        self.address(self.brokers, Purpose::Admin).port(),
                    );
                }
            }
        }
        Ok(())
    }

    /// A broker's configuration file.
    fn configuration(&self, folder: &Path, broker: u16) -> String {
        let voters: Vec<String> = self
            .ids()
            .map(|id| format!("\"{id}@{}\"", self.address(id, Purpose::Peer)))
            .collect();
        let limits: Vec<String> = self
            .limits
            .iter()
            .map(|(key, value)| format!("{key} = {value}\n"))
            .collect();
        let home = Home::of(folder, broker);
        format!(
            "# Written by `cargo xtask cluster up`; rewritten by it, too.\n\
             [broker]\n\
             id = {broker}\n\
             rack = \"rack-{broker}\"\n\
             data = {data}\n\
             \n\
             [listeners]\n\
             client = \"{client}\"\n\
             peer = \"{peer}\"\n\
             admin = \"{admin}\"\n\
             \n\
             [cluster]\n\
             id = \"{cluster}\"\n\
             voters = [{voters}]\n\
             \n\
             # Tests and trials want an answer more than fewer rebalances.\n\
             [groups]\n\
             initial_rebalance_delay_ms = 0\n\
             \n\
             [limits]\n\
             {limits}",
            data = toml_string(&home.data.to_string_lossy()),
            client = self.address(broker, Purpose::Client),
            peer = self.address(broker, Purpose::Peer),
            admin = self.address(broker, Purpose::Admin),
            cluster = self.cluster_id,
            voters = voters.join(", "),
            limits = limits.concat(),
        )
    }
}

/// A TOML basic string, which JSON's strings are.
fn toml_string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn plan_file(folder: &Path) -> PathBuf {
    folder.join("cluster.json")
}

/// Where a broker keeps things.
pub(crate) struct Home {
    pub(crate) folder: PathBuf,
    pub(crate) config: PathBuf,
    pub(crate) data: PathBuf,
    pub(crate) log: PathBuf,
    pub(crate) pid: PathBuf,
}

impl Home {
    pub(crate) fn of(cluster: &Path, broker: u16) -> Home {
        let folder = cluster.join(format!("broker-{broker}"));
        Home {
            config: folder.join("trimaran.toml"),
            data: folder.join("data"),
            log: folder.join("broker.log"),
            pid: folder.join(PID_FILE),
            folder,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(brokers: u16, base_port: u16) -> Result<Plan> {
        Plan::new("local-1".to_owned(), brokers, base_port)
    }

    #[test]
    fn ports_of_one_purpose_stand_together_and_never_overlap() {
        let plan = plan(100, 9092).unwrap();
        let mut ports: Vec<u16> = plan
            .ids()
            .flat_map(|broker| Purpose::ALL.map(|purpose| plan.address(broker, purpose).port()))
            .collect();
        ports.sort_unstable();
        assert_eq!(ports, (9092..9392).collect::<Vec<_>>());
        assert_eq!(plan.address(2, Purpose::Client).to_string(), "127.0.0.1:9093");
        assert_eq!(plan.address(1, Purpose::Admin).to_string(), "127.0.0.1:9292");
    }

    #[test]
    fn numbers_that_do_not_fit_are_refused() {
        assert!(plan(3, 9092).is_ok() && plan(1, 65_335).is_ok());
        for (brokers, base_port) in [(0, 9092), (101, 9092), (3, 0), (3, 65_334), (1, 65_336)] {
            assert!(plan(brokers, base_port).is_err(), "{brokers} {base_port}");
        }
    }

    #[test]
    fn a_taken_port_is_named_with_its_purpose() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        // The last ports are no base; another neighbour may have the ones after this, but this one is looked at first.
        let Ok(plan) = plan(1, port) else { return };
        let error = plan.check_ports(plan.ids()).unwrap_err().to_string();
        assert!(error.contains("--base-port"), "{error}");
        assert!(error.contains(&format!("port {port} ")), "{error}");
    }

    #[test]
    fn a_plan_is_read_as_written() {
        let folder = std::env::temp_dir().join(format!("xtask-plan-{}", std::process::id()));
        let plan = plan(3, 9092).unwrap();
        plan.write(&folder).unwrap();
        assert_eq!(Plan::read(&folder).unwrap(), Some(plan));
        let config = fs::read_to_string(Home::of(&folder, 2).config).unwrap();
        assert!(
            config.contains("id = 2\n") && config.contains("client = \"127.0.0.1:9093\""),
            "{config}"
        );
        assert!(
            config.contains("\"1@127.0.0.1:9192\", \"2@127.0.0.1:9193\", \"3@127.0.0.1:9194\""),
            "{config}"
        );
        fs::write(plan_file(&folder), "{}").unwrap();
        assert!(Plan::read(&folder).unwrap_err().to_string().contains("--fresh"));
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(Plan::read(&folder).unwrap(), None);
    }
}
