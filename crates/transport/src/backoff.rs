//! Pauses between attempts: longer each time, and never the same for two.

use std::time::Duration;

/// Doubling pauses with jitter from a seed.
pub(crate) struct Backoff {
    min: Duration,
    max: Duration,
    ceiling: Duration,
    random: SplitMix,
}

impl Backoff {
    pub(crate) fn new(min: Duration, max: Duration, seed: u64) -> Backoff {
        Backoff {
            min,
            max: max.max(min),
            ceiling: min,
            random: SplitMix(seed),
        }
    }

    /// The next pause: half of the ceiling to the whole of it, at random; the ceiling then doubles.
    pub(crate) fn pause(&mut self) -> Duration {
        let pause = self.jitter(self.ceiling);
        self.ceiling = (self.ceiling * 2).min(self.max);
        pause
    }

    /// The longest pause, with jitter: for what only an operator can mend.
    pub(crate) fn longest(&mut self) -> Duration {
        self.jitter(self.max)
    }

    /// An attempt succeeded.
    pub(crate) fn reset(&mut self) {
        self.ceiling = self.min;
    }

    fn jitter(&mut self, ceiling: Duration) -> Duration {
        ceiling.mul_f64(0.5 + self.random.next_unit() / 2.0)
    }
}

/// The SplitMix64 generator (Steele, Lea, Flood 2014): enough for jitter, and the same for the same seed.
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// At least zero, less than one.
    fn next_unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIN: Duration = Duration::from_millis(20);
    const MAX: Duration = Duration::from_millis(1000);

    #[test]
    fn pauses_double_up_to_the_longest_and_begin_again() {
        let mut backoff = Backoff::new(MIN, MAX, 7);
        for ceiling in [20, 40, 80, 160, 320, 640, 1000, 1000].map(Duration::from_millis) {
            let pause = backoff.pause();
            assert!(pause >= ceiling / 2 && pause <= ceiling, "{pause:?} of {ceiling:?}");
        }
        backoff.reset();
        assert!(backoff.pause() <= MIN);
    }

    #[test]
    fn a_seed_decides_the_jitter() {
        let pauses = |seed| {
            let mut backoff = Backoff::new(MIN, MAX, seed);
            [(); 8].map(|()| backoff.pause())
        };
        assert_eq!(pauses(1), pauses(1));
        assert_ne!(pauses(1), pauses(2));
    }

    #[test]
    fn the_generator_is_splitmix64() {
        // The first values of seed 1234567, from the reference implementation.
        let mut random = SplitMix(1_234_567);
        assert_eq!(random.next(), 6_457_827_717_110_365_317);
        assert_eq!(random.next(), 3_203_168_211_198_807_973);
    }
}
