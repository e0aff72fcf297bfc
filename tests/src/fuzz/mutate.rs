//! Valid inputs, changed: the cheap part of what a fuzzer does, the same on every run.

use crate::sim::rng::Rng;

/// `count` inputs: the seeds as they are, then mutations of them.
pub fn inputs(seeds: &[Vec<u8>], seed: u64, count: usize) -> impl Iterator<Item = Vec<u8>> {
    let mut rng = Rng::new(seed);
    let mutated = std::iter::repeat_with(move || {
        let mut bytes = seeds.get(rng.index(seeds.len())).cloned().unwrap_or_default();
        for _ in 0..rng.between(1, 4) {
            mutate(&mut rng, &mut bytes, seeds);
        }
        bytes
    });
    seeds.iter().cloned().chain(mutated).take(count.max(seeds.len()))
}

/// Numbers that lengths, counts and positions go wrong with.
const NUMBERS: [u64; 16] = [
    0,
    1,
    2,
    0x7f,
    0x80,
    0xff,
    0x100,
    0x7fff,
    0x8000,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x7fff_ffff_ffff_ffff,
    0x8000_0000_0000_0000,
    0xffff_ffff_ffff_ffff,
];

/// One change.
fn mutate(rng: &mut Rng, bytes: &mut Vec<u8>, seeds: &[Vec<u8>]) {
    let at = rng.index(bytes.len());
    match rng.below(9) {
        0 | 1 if !bytes.is_empty() => bytes[at] ^= 1 << rng.below(8),
        2 if !bytes.is_empty() => bytes[at] = rng.next() as u8,
        3 => write_number(rng, bytes, at),
        4 => bytes.truncate(at),
        // A piece goes.
        5 => drop(bytes.drain(at..at + rng.index((bytes.len() - at).min(16) + 1))),
        // A piece of this or another input comes.
        6 => {
            let other = seeds.get(rng.index(seeds.len())).map_or(&[][..], Vec::as_slice);
            let from = rng.index(other.len());
            let upto = from + rng.index(other.len() - from + 1);
            drop(bytes.splice(at..at, other[from..upto].iter().copied()));
        }
        // The rest is another input's.
        7 => {
            let other = seeds.get(rng.index(seeds.len())).map_or(&[][..], Vec::as_slice);
            bytes.truncate(at);
            bytes.extend_from_slice(&other[rng.index(other.len())..]);
        }
        _ => {
            let count = rng.index(8);
            let noise: Vec<u8> = (0..count).map(|_| rng.next() as u8).collect();
            drop(bytes.splice(at..at, noise));
        }
    }
}

/// A length field, a count, a position: of any width, in either order, or of variable length.
fn write_number(rng: &mut Rng, bytes: &mut Vec<u8>, at: usize) {
    let number = NUMBERS[rng.index(NUMBERS.len())];
    let width = 1 << rng.below(4);
    let big: Vec<u8> = number.to_be_bytes()[8 - width..].to_vec();
    let new = match rng.below(3) {
        0 => big,
        1 => big.into_iter().rev().collect(),
        _ => varint(number),
    };
    // Most of the time instead of what is there.
    let upto = if rng.below(4) == 0 {
        at
    } else {
        bytes.len().min(at + new.len())
    };
    drop(bytes.splice(at..upto, new));
}

fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_inputs() {
        let seeds = [b"one".to_vec(), b"another".to_vec(), Vec::new()];
        let all = |seed| inputs(&seeds, seed, 500).collect::<Vec<_>>();
        assert_eq!(all(1), all(1));
        assert_ne!(all(1), all(2));
        assert_eq!(all(1)[..3], seeds);
        let changed = all(1)[3..].iter().filter(|input| !seeds.contains(input)).count();
        assert!(changed > 400, "{changed}");
    }

    #[test]
    fn every_seed_is_an_input_however_few_are_wanted() {
        let seeds = [b"one".to_vec(), b"another".to_vec()];
        assert_eq!(inputs(&seeds, 1, 0).count(), 2);
    }
}
