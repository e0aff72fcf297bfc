//! The ways between brokers, as TCP relays in this process: no privileges are needed, and loopback is never left.
//!
//! Each ordered pair of brokers has a relay of its own: brokers connect to each other in both directions, and what one tells
//! another goes over the connection that it has made itself. So one way can fail while the other works. A relay's thread
//! accepts, and each connection has a thread for each direction; all of them end when the [`Network`] is dropped.

use crate::process::free_port;
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// How often a thread that waits looks whether its way has changed.
const GLANCE: Duration = Duration::from_millis(20);

/// What is carried at once. On a slow way each piece waits, so that it is also narrow.
const PIECE_BYTES: usize = 16 << 10;

/// How long a relay tries to reach the broker behind it.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);

/// The state of the way from one broker to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Everything arrives.
    Open,
    /// Each piece arrives so much later.
    Slow(Duration),
    /// Nothing arrives, and nobody is told: packets are dropped. What was said is repeated once the way opens, as TCP does.
    Silent,
    /// Connections break, and new ones break as soon as they are made.
    Broken,
    /// The machine answers that nobody listens: the broker behind it is gone.
    Refused,
}

/// Brokers in an order: from, to.
type Pair = (u32, u32);

struct Shared {
    ways: Mutex<BTreeMap<Pair, Way>>,
    ending: AtomicBool,
}

impl Shared {
    fn way(&self, pair: Pair) -> Way {
        self.ways().get(&pair).copied().unwrap_or(Way::Open)
    }

    fn ways(&self) -> MutexGuard<'_, BTreeMap<Pair, Way>> {
        self.ways.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_ending(&self) -> bool {
        self.ending.load(Ordering::SeqCst)
    }
}

/// All ways of a cluster.
pub struct Network {
    shared: Arc<Shared>,
    relays: Vec<JoinHandle<()>>,
}

impl Default for Network {
    fn default() -> Network {
        Network {
            shared: Arc::new(Shared {
                ways: Mutex::default(),
                ending: AtomicBool::new(false),
            }),
            relays: Vec::new(),
        }
    }
}

impl Network {
    /// Makes the way from one broker to another, whose peer listener is at `target`; where it begins.
    pub fn add(&mut self, from: u32, to: u32, target: SocketAddr) -> SocketAddr {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let relay = Relay {
            pair: (from, to),
            address,
            target,
            shared: Arc::clone(&self.shared),
        };
        self.relays.push(std::thread::spawn(move || relay.run()));
        address
    }

    /// Changes the state of a way.
    pub fn set(&self, from: u32, to: u32, way: Way) {
        self.shared.ways().insert((from, to), way);
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.shared.ending.store(true, Ordering::SeqCst);
        for relay in self.relays.drain(..) {
            // A relay that panicked has said so already.
            drop(relay.join());
        }
    }
}

/// Accepts the connections of one way.
struct Relay {
    pair: Pair,
    address: SocketAddr,
    target: SocketAddr,
    shared: Arc<Shared>,
}

impl Relay {
    fn run(self) {
        let mut listener: Option<TcpListener> = None;
        let mut threads: Vec<JoinHandle<()>> = Vec::new();
        while !self.shared.is_ending() {
            threads.retain(|thread| !thread.is_finished());
            if self.shared.way(self.pair) == Way::Refused {
                listener = None;
                std::thread::sleep(GLANCE);
                continue;
            }
            match self.accept(&mut listener) {
                Some(stream) => threads.extend(self.carry(stream).into_iter().flatten()),
                None => std::thread::sleep(GLANCE),
            }
        }
        for thread in threads {
            drop(thread.join());
        }
    }

    /// The next connection, if one is waiting. A listener that can't be made is tried again.
    fn accept(&self, listener: &mut Option<TcpListener>) -> Option<TcpStream> {
        if listener.is_none() {
            let bound = TcpListener::bind(self.address).ok()?;
            bound.set_nonblocking(true).ok()?;
            *listener = Some(bound);
        }
        let (stream, _) = listener.as_ref()?.accept().ok()?;
        Some(stream)
    }

    /// Carries a connection's bytes both ways. Its end at one side is its end at the other.
    fn carry(&self, near: TcpStream) -> io::Result<[JoinHandle<()>; 2]> {
        near.set_nonblocking(false)?;
        if self.shared.way(self.pair) == Way::Broken {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        // While nothing gets through, a handshake does not either; it waits in this end's buffer.
        let far = TcpStream::connect_timeout(&self.target, CONNECT_TIMEOUT)?;
        for stream in [&near, &far] {
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(GLANCE))?;
            stream.set_write_timeout(Some(GLANCE))?;
        }
        let (from, to) = self.pair;
        let there = Carrier {
            from: near.try_clone()?,
            to: far.try_clone()?,
            pair: self.pair,
            of: self.pair,
            shared: Arc::clone(&self.shared),
        };
        let back = Carrier {
            from: far,
            to: near,
            pair: (to, from),
            of: self.pair,
            shared: Arc::clone(&self.shared),
        };
        Ok([
            std::thread::spawn(move || there.run()),
            std::thread::spawn(move || back.run()),
        ])
    }
}

/// Carries what one side of a connection says to the other.
struct Carrier {
    from: TcpStream,
    to: TcpStream,
    /// The way that the bytes take: for answers it is the other one's.
    pair: Pair,
    /// The way that the connection belongs to.
    of: Pair,
    shared: Arc<Shared>,
}

impl Carrier {
    fn run(mut self) {
        let mut piece = vec![0; PIECE_BYTES];
        while self.is_wanted() {
            match self.from.read(&mut piece) {
                Ok(0) => break,
                Ok(read) => {
                    if !self.deliver(&piece[..read]) {
                        break;
                    }
                }
                Err(error) if is_impatience(&error) => {}
                Err(_) => break,
            }
        }
        // An end, too, is news that takes its time.
        while self.is_wanted() && self.shared.way(self.pair) == Way::Silent {
            std::thread::sleep(GLANCE);
        }
        for stream in [&self.from, &self.to] {
            // It may be closed already.
            drop(stream.shutdown(Shutdown::Both));
        }
    }

    fn is_wanted(&self) -> bool {
        !self.shared.is_ending() && self.shared.way(self.of) != Way::Broken
    }

    /// Says whether the connection goes on.
    fn deliver(&mut self, mut piece: &[u8]) -> bool {
        if let Way::Slow(delay) = self.shared.way(self.pair) {
            std::thread::sleep(delay);
        }
        while self.is_wanted() {
            if self.shared.way(self.pair) == Way::Silent {
                std::thread::sleep(GLANCE);
                continue;
            }
            match self.to.write(piece) {
                Ok(0) => return false,
                Ok(written) => piece = &piece[written..],
                Err(error) if is_impatience(&error) => {}
                Err(_) => return false,
            }
            if piece.is_empty() {
                return true;
            }
        }
        false
    }
}

fn is_impatience(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::wait_until;

    struct Ends {
        network: Network,
        address: SocketAddr,
        listener: TcpListener,
    }

    impl Ends {
        fn new() -> Ends {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
            let mut network = Network::default();
            let target = listener.local_addr().expect("it is bound");
            let address = network.add(1, 2, target);
            Ends {
                network,
                address,
                listener,
            }
        }

        fn connect(&self) -> (TcpStream, TcpStream) {
            let near = wait_until("the relay listens", || TcpStream::connect(self.address).ok());
            let (far, _) = self.listener.accept().expect("the relay connects");
            for stream in [&near, &far] {
                stream
                    .set_read_timeout(Some(Duration::from_millis(200)))
                    .expect("a timeout can be set");
            }
            (near, far)
        }
    }

    fn hears(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
        let mut heard = [0; 8];
        stream.read(&mut heard).map(|read| heard[..read].to_vec())
    }

    #[test]
    fn an_open_way_carries_both_directions() {
        let ends = Ends::new();
        let (mut near, mut far) = ends.connect();
        near.write_all(b"there").unwrap();
        assert_eq!(wait_until("it arrives", || hears(&mut far).ok()), b"there");
        far.write_all(b"back").unwrap();
        assert_eq!(wait_until("it arrives", || hears(&mut near).ok()), b"back");
        drop(near);
        assert_eq!(wait_until("the end arrives", || hears(&mut far).ok()), b"");
    }

    #[test]
    fn a_silent_way_is_silent_in_one_direction_and_repeats_later() {
        let ends = Ends::new();
        let (mut near, mut far) = ends.connect();
        ends.network.set(1, 2, Way::Silent);
        near.write_all(b"there").unwrap();
        assert!(hears(&mut far).is_err(), "nothing gets through");
        far.write_all(b"back").unwrap();
        assert_eq!(wait_until("it arrives", || hears(&mut near).ok()), b"back");
        ends.network.set(1, 2, Way::Open);
        assert_eq!(wait_until("it arrives", || hears(&mut far).ok()), b"there");
    }

    #[test]
    fn a_broken_way_breaks_connections() {
        let ends = Ends::new();
        let (mut near, _far) = ends.connect();
        ends.network.set(1, 2, Way::Broken);
        let is_over = |heard: io::Result<Vec<u8>>| match heard {
            Ok(heard) => heard.is_empty(),
            Err(error) => !is_impatience(&error),
        };
        wait_until("the connection ends", || is_over(hears(&mut near)).then_some(()));
        ends.network.set(1, 2, Way::Open);
        let (mut near, mut far) = ends.connect();
        near.write_all(b"again").unwrap();
        assert_eq!(wait_until("it arrives", || hears(&mut far).ok()), b"again");
    }

    #[test]
    fn a_refused_way_refuses() {
        let ends = Ends::new();
        drop(ends.connect());
        ends.network.set(1, 2, Way::Refused);
        wait_until("it refuses", || {
            let refused = |error: io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
            TcpStream::connect(ends.address).is_err_and(refused).then_some(())
        });
        ends.network.set(1, 2, Way::Open);
        wait_until("the relay listens again", || TcpStream::connect(ends.address).ok());
    }
}
