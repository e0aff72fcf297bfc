//! Real `trimaran` processes on this machine, for tests: started, watched, hurt, and always ended and reaped.
//!
//! Nothing here sleeps for a guess: [`wait_until`] asks a condition, with a generous deadline and a word for what it
//! waits for. Processes are only ever signalled by the pid that their start recorded.

mod binary;
mod cluster;
mod hang;
mod http;
mod kafka;
mod load;
mod log;
mod requests;

pub use binary::{binary, kcat, run_with_input, workspace};
pub use cluster::{BrokerProcess, Cluster, ClusterOptions};
pub use hang::HungThread;
pub use http::{Reply, get, post};
pub use kafka::{KafkaClient, Leader};
pub use load::{Load, LoadOptions, Outage};
pub(crate) use load::{now_ms, other_leader};
pub use requests::Fetched;
pub(crate) use requests::{
    CREATE_TOPICS_VERSION, DELETE_TOPICS_VERSION, Reading, create_topic, delete_topic, offset, poll_produced, produce,
    send_produce,
};

pub use trimaran_client::RequestError;
pub use trimaran_client::blocking::Connection;
pub(crate) use trimaran_client::requests::good;

use std::io::{self, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

/// How long anything may take before a test gives up. Generous: a loaded machine with two cores is slow, not wrong.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Asks until there is an answer.
///
/// # Panics
/// When there is none before [`DEADLINE`].
#[track_caller]
pub fn wait_until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "{what}: not within {DEADLINE:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Prints a measured result past the capture of test output: it is worth seeing also when the test passes.
pub fn announce(line: &str) {
    // Nobody listens: nothing to say.
    drop(writeln!(io::stdout(), "{line}"));
}

/// Below the range that systems take outgoing connections' ports from, so that a broker that is down does not lose its
/// port to somebody's connection.
const FIRST_PORT: u16 = 11_000;
const LAST_PORT: u16 = 31_000;

/// A loopback port that nobody listens on. No port is given out twice by one process, and processes begin at different
/// ones.
///
/// # Panics
/// When there is none left.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let span = LAST_PORT - FIRST_PORT;
    let start = u16::try_from(std::process::id() * 61 % u32::from(span)).unwrap_or(0);
    for _ in 0..span {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = FIRST_PORT + (start + step % span) % span;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
    panic!("no loopback port is free");
}
