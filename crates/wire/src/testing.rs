//! What the tests of several modules share.

pub(crate) mod consumer_groups;

/// A small deterministic generator (SplitMix64): a failing input comes again on the next run.
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`, which is not zero.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// Fewer than `end` random bytes.
    pub(crate) fn bytes(&mut self, end: usize) -> Vec<u8> {
        (0..self.below(end)).map(|_| self.next() as u8).collect()
    }

    /// A copy with a few bytes changed, or cut, or with extreme numbers written over it.
    pub(crate) fn mutate(&mut self, seed: &[u8]) -> Vec<u8> {
        let mut bytes = seed.to_vec();
        for _ in 0..self.below(4) {
            if bytes.is_empty() {
                break;
            }
            let at = self.below(bytes.len());
            match self.below(3) {
                0 => bytes[at] = self.next() as u8,
                1 => bytes[at] ^= 1 << self.below(8),
                _ => {
                    let end = bytes.len().min(at + 4);
                    bytes[at..end].fill([0x7f, 0xff, 0x80, 0x00][self.below(4)]);
                }
            }
        }
        if !bytes.is_empty() && self.below(3) == 0 {
            bytes.truncate(self.below(bytes.len()));
        }
        bytes
    }
}
