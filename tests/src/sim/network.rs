//! A network that loses, delays, duplicates, reorders and cuts.

use super::queue::Micros;
use super::rng::Rng;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

/// Who can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// A broker, by its id.
    Broker(u32),
    /// A client, by its number.
    Client(u32),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Broker(id) => write!(f, "b{id}"),
            Place::Client(number) => write!(f, "c{number}"),
        }
    }
}

/// How messages between brokers fare at the moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Weather {
    /// How many of a thousand messages are lost.
    pub loss_per_mille: u64,
    /// How many of a thousand messages arrive twice.
    pub duplicate_per_mille: u64,
    /// The shortest way.
    pub delay_min_us: Micros,
    /// The longest usual way; a message may overtake another.
    pub delay_max_us: Micros,
    /// How many of a thousand messages take much longer.
    pub spike_per_mille: u64,
    /// How long these take at most.
    pub spike_max_us: Micros,
}

impl Weather {
    /// A good local network.
    pub fn fair() -> Weather {
        Weather {
            loss_per_mille: 0,
            duplicate_per_mille: 0,
            delay_min_us: 80,
            delay_max_us: 400,
            spike_per_mille: 0,
            spike_max_us: 0,
        }
    }

    /// A network as a cluster with that failover budget may have it for ever: from one switch to one continent. A slower
    /// one would be an error of the operator, who would be told that the budget is not safe.
    pub fn usual(rng: &mut Rng, budget: Duration) -> Weather {
        let slow = Micros::try_from(budget.as_micros()).unwrap_or(Micros::MAX) / 100;
        let delay_max_us = *rng.pick(&[400, 400, slow]).unwrap_or(&400);
        Weather {
            delay_max_us,
            ..Weather::fair()
        }
    }

    /// Anything from fair to a storm.
    pub fn random(rng: &mut Rng) -> Weather {
        let rough = rng.below(4);
        Weather {
            loss_per_mille: [0, 5, 40, 300][usize::try_from(rough).unwrap_or(0)],
            duplicate_per_mille: rng.below(1 + 30 * rough),
            delay_min_us: rng.between(50, 500),
            delay_max_us: rng.between(500, 2_000 + 5_000 * rough),
            spike_per_mille: rng.below(1 + 10 * rough),
            spike_max_us: rng.between(10_000, 400_000),
        }
    }
}

/// All ways between places.
#[derive(Debug)]
pub struct Network {
    rng: Rng,
    /// What the weather is when nothing is wrong with it.
    usual: Weather,
    weather: Weather,
    /// Ways that are clogged: until when, and how many more frames their queues hold.
    clogged: BTreeMap<(Place, Place), (Micros, usize)>,
    cut: BTreeSet<(Place, Place)>,
    /// When the last frame of a connection arrives, for each direction: a connection keeps its order.
    arrivals: BTreeMap<(Place, Place), Micros>,
    /// Connections that have lost something, by their client and broker: nothing that is sent behind it arrives either,
    /// in both directions, until both sides have given the connection up.
    broken: BTreeMap<(Place, Place), Micros>,
}

/// Clients have given up a broken connection, and all they had asked over it, after this time.
const GIVEN_UP_US: Micros = 1_500_000;

impl Network {
    /// Nothing cut, in its usual weather.
    pub fn new(rng: Rng, usual: Weather) -> Network {
        Network {
            rng,
            weather: usual.clone(),
            usual,
            clogged: BTreeMap::new(),
            cut: BTreeSet::new(),
            arrivals: BTreeMap::new(),
            broken: BTreeMap::new(),
        }
    }

    /// Changes the weather.
    pub fn set_weather(&mut self, weather: Weather) {
        self.weather = weather;
    }

    /// The weather is as usual again.
    pub fn clear_up(&mut self) {
        self.weather = self.usual.clone();
    }

    /// What is sent on this way arrives then, all at once; what is more than its queue holds is lost.
    pub fn clog(&mut self, from: Place, to: Place, until: Micros, queue: usize) {
        self.clogged.insert((from, to), (until, queue));
    }

    /// Cuts one direction of a way.
    pub fn cut(&mut self, from: Place, to: Place) {
        self.cut.insert((from, to));
    }

    /// Repairs one direction of a way.
    pub fn repair(&mut self, from: Place, to: Place) {
        self.cut.remove(&(from, to));
    }

    /// Repairs everything, and the weather is as usual again. Clogged ways become free when they would have.
    pub fn heal(&mut self) {
        self.cut.clear();
        self.clear_up();
    }

    /// Whether a message could come through.
    pub fn is_open(&self, from: Place, to: Place) -> bool {
        !self.cut.contains(&(from, to))
    }

    /// How long a message between brokers takes: no answer if it is lost, two if it arrives twice.
    pub fn deliveries(&mut self, from: Place, to: Place, now: Micros) -> Vec<Micros> {
        let lost = self.rng.chance(self.weather.loss_per_mille);
        if lost || !self.is_open(from, to) {
            return Vec::new();
        }
        let Some(held) = self.held(from, to, now) else {
            return Vec::new();
        };
        let mut delays = vec![held + self.delay()];
        if self.rng.chance(self.weather.duplicate_per_mille) {
            delays.push(held + self.delay());
        }
        delays
    }

    /// How long a frame waits for a clogged way; none if the way's queue is full.
    fn held(&mut self, from: Place, to: Place, now: Micros) -> Option<Micros> {
        let Some((until, room)) = self.clogged.get_mut(&(from, to)) else {
            return Some(0);
        };
        if *until <= now {
            self.clogged.remove(&(from, to));
            return Some(0);
        }
        *room = room.checked_sub(1)?;
        Some(*until - now)
    }

    /// When a client's request or its answer arrives: a connection loses nothing and keeps its order while the way is
    /// open. Once it has lost something it delivers nothing more.
    pub fn connection(&mut self, from: Place, to: Place, now: Micros) -> Option<Micros> {
        let arrival = now + self.rng.between(50, 500);
        let connection = (from.max(to), from.min(to));
        if self.broken.get(&connection).is_some_and(|until| now < *until) {
            return None;
        }
        if !self.is_open(from, to) {
            self.broken.insert(connection, now + GIVEN_UP_US);
            return None;
        }
        let last = self.arrivals.entry((from, to)).or_insert(0);
        *last = arrival.max(*last);
        Some(*last)
    }

    fn delay(&mut self) -> Micros {
        if self.rng.chance(self.weather.spike_per_mille) {
            return self
                .rng
                .between(self.weather.delay_max_us, self.weather.spike_max_us.max(1));
        }
        self.rng.between(self.weather.delay_min_us, self.weather.delay_max_us)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Place = Place::Broker(1);
    const B: Place = Place::Broker(2);

    #[test]
    fn a_cut_has_a_direction() {
        let mut network = Network::new(Rng::new(1), Weather::fair());
        network.cut(A, B);
        assert!(network.deliveries(A, B, 0).is_empty());
        assert_eq!(network.deliveries(B, A, 0).len(), 1);
        network.heal();
        assert_eq!(network.deliveries(A, B, 0).len(), 1);
    }

    #[test]
    fn weather_loses_and_duplicates() {
        let mut network = Network::new(Rng::new(1), Weather::fair());
        network.set_weather(Weather {
            loss_per_mille: 1000,
            ..Weather::fair()
        });
        assert!(network.deliveries(A, B, 0).is_empty());
        network.set_weather(Weather {
            duplicate_per_mille: 1000,
            ..Weather::fair()
        });
        assert_eq!(network.deliveries(A, B, 0).len(), 2);
    }

    #[test]
    fn a_clogged_way_holds_what_its_queue_can() {
        let mut network = Network::new(Rng::new(1), Weather::fair());
        network.clog(A, B, 10_000, 2);
        assert!(network.deliveries(A, B, 4_000)[0] >= 6_000);
        assert!(network.deliveries(A, B, 9_000)[0] >= 1_000);
        assert!(network.deliveries(A, B, 9_500).is_empty());
        assert!(network.deliveries(A, B, 10_000)[0] < 1_000);
    }

    #[test]
    fn a_connection_keeps_its_order() {
        let mut network = Network::new(Rng::new(1), Weather::fair());
        let mut last = 0;
        for now in 0..200 {
            let arrival = network.connection(A, B, now).unwrap();
            assert!(arrival >= last);
            last = arrival;
        }
    }

    #[test]
    fn nothing_overtakes_what_a_connection_lost() {
        let mut network = Network::new(Rng::new(1), Weather::fair());
        network.cut(A, B);
        assert_eq!(network.connection(A, B, 0), None);
        network.repair(A, B);
        assert_eq!(network.connection(A, B, 10), None);
        assert!(network.connection(A, B, GIVEN_UP_US).is_some());
    }
}
