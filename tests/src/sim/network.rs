//! A network that loses, delays, duplicates, reorders and cuts.

use super::queue::Micros;
use super::rng::Rng;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

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
    weather: Weather,
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
    /// Nothing cut, in fair weather.
    pub fn new(rng: Rng) -> Network {
        Network {
            rng,
            weather: Weather::fair(),
            cut: BTreeSet::new(),
            arrivals: BTreeMap::new(),
            broken: BTreeMap::new(),
        }
    }

    /// Changes the weather.
    pub fn set_weather(&mut self, weather: Weather) {
        self.weather = weather;
    }

    /// Cuts one direction of a way.
    pub fn cut(&mut self, from: Place, to: Place) {
        self.cut.insert((from, to));
    }

    /// Repairs one direction of a way.
    pub fn repair(&mut self, from: Place, to: Place) {
        self.cut.remove(&(from, to));
    }

    /// Repairs everything, and the weather is fair again.
    pub fn heal(&mut self) {
        self.cut.clear();
        self.weather = Weather::fair();
    }

    /// Whether a message could come through.
    pub fn is_open(&self, from: Place, to: Place) -> bool {
        !self.cut.contains(&(from, to))
    }

    /// How long a message between brokers takes: no answer if it is lost, two if it arrives twice.
    pub fn deliveries(&mut self, from: Place, to: Place) -> Vec<Micros> {
        let lost = self.rng.chance(self.weather.loss_per_mille);
        if lost || !self.is_open(from, to) {
            return Vec::new();
        }
        let mut delays = vec![self.delay()];
        if self.rng.chance(self.weather.duplicate_per_mille) {
            delays.push(self.delay());
        }
        delays
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
        let mut network = Network::new(Rng::new(1));
        network.cut(A, B);
        assert!(network.deliveries(A, B).is_empty());
        assert_eq!(network.deliveries(B, A).len(), 1);
        network.heal();
        assert_eq!(network.deliveries(A, B).len(), 1);
    }

    #[test]
    fn weather_loses_and_duplicates() {
        let mut network = Network::new(Rng::new(1));
        network.set_weather(Weather {
            loss_per_mille: 1000,
            ..Weather::fair()
        });
        assert!(network.deliveries(A, B).is_empty());
        network.set_weather(Weather {
            duplicate_per_mille: 1000,
            ..Weather::fair()
        });
        assert_eq!(network.deliveries(A, B).len(), 2);
    }

    #[test]
    fn a_connection_keeps_its_order() {
        let mut network = Network::new(Rng::new(1));
        let mut last = 0;
        for now in 0..200 {
            let arrival = network.connection(A, B, now).unwrap();
            assert!(arrival >= last);
            last = arrival;
        }
    }

    #[test]
    fn nothing_overtakes_what_a_connection_lost() {
        let mut network = Network::new(Rng::new(1));
        network.cut(A, B);
        assert_eq!(network.connection(A, B, 0), None);
        network.repair(A, B);
        assert_eq!(network.connection(A, B, 10), None);
        assert!(network.connection(A, B, GIVEN_UP_US).is_some());
    }
}
