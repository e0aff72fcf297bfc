//! Everything is stored once and then called by its number, so that a state is a handful of numbers.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::rc::Rc;

/// Values by number, numbers by value.
pub(super) struct Store<T> {
    numbers: HashMap<Rc<T>, u32>,
    values: Vec<Rc<T>>,
}

impl<T: Eq + Hash> Store<T> {
    pub(super) fn new() -> Store<T> {
        Store {
            numbers: HashMap::new(),
            values: Vec::new(),
        }
    }

    /// The number of an equal value, or a new one.
    pub(super) fn number_of(&mut self, value: T) -> u32 {
        if let Some(number) = self.numbers.get(&value) {
            return *number;
        }
        let number = u32::try_from(self.values.len()).expect("fewer than four thousand million values");
        let value = Rc::new(value);
        self.numbers.insert(value.clone(), number);
        self.values.push(value);
        number
    }

    pub(super) fn get(&self, number: u32) -> Rc<T> {
        self.values[number as usize].clone()
    }

    pub(super) fn look(&self, number: u32) -> &T {
        &self.values[number as usize]
    }

    pub(super) fn len(&self) -> usize {
        self.values.len()
    }
}

/// A map whose keys are random already, or become so by one multiplication.
pub(super) type QuickMap<K, V> = HashMap<K, V, BuildHasherDefault<Quick>>;

/// Folds a multiplication: enough for keys that nobody chooses in order to collide.
#[derive(Default)]
pub(super) struct Quick(u64);

impl Hasher for Quick {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = fold(self.0 ^ word, 0x9e37_79b9_7f4a_7c15);
    }

    fn write_u128(&mut self, word: u128) {
        // A fingerprint.
        self.0 = word as u64;
    }
}

/// 128 bits that tell states apart: among a thousand million of them, two coincide with a chance below 1e-20.
pub(super) fn fingerprint(words: &[u32]) -> u128 {
    let (mut low, mut high) = (0x243f_6a88_85a3_08d3_u64, 0x1319_8a2e_0370_7344_u64);
    for word in words {
        let word = u64::from(*word) + 1;
        low = fold(low ^ word, 0xa076_1d64_78bd_642f);
        high = fold(high.rotate_left(23) ^ word, 0xe703_7ed1_a0b4_28db);
    }
    u128::from(fold(low, high | 1)) << 64 | u128::from(high ^ low.rotate_left(32))
}

fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product >> 64) as u64 ^ product as u64
}
