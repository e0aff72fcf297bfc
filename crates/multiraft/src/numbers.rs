//! Maps by numbers that this broker's own side gives out: groups and tickets.
//!
//! Every message and every append looks its group up several times. The standard hash withstands keys that are chosen
//! to collide, at several times the cost of the look-up itself; nobody outside chooses these.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A map by a newtype of `u64`.
pub(crate) type NumberMap<K, V> = HashMap<K, V, BuildHasherDefault<NumberHasher>>;

/// Fibonacci hashing (Knuth, The Art of Computer Programming, volume 3, section 6.4), with the product's upper half
/// folded in, so that low bits depend on high ones too.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.write_u64(u64::from(byte)));
    }

    fn write_u64(&mut self, number: u64) {
        let product = u128::from(self.0 ^ number) * 0x9e37_79b9_7f4a_7c15;
        self.0 = product as u64 ^ (product >> 64) as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// Of a map's slots (the low bits) and of its tags (the top seven), numbers in a row or in even steps take many.
    #[test]
    fn numbers_are_spread() {
        for step in [1, 2, 3, 4, 64, 1 << 20, 1 << 40] {
            let hash = |number: u64| {
                let mut hasher = NumberHasher::default();
                hasher.write_u64(number * step);
                hasher.finish()
            };
            let slots: BTreeSet<u64> = (0..1_024).map(|number| hash(number) % 1_024).collect();
            let tags: BTreeSet<u64> = (0..1_024).map(|number| hash(number) >> 57).collect();
            assert!(
                slots.len() > 400 && tags.len() > 100,
                "{step}: {} {}",
                slots.len(),
                tags.len()
            );
        }
    }
}
