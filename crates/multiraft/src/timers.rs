//! One timer wheel for all the groups of a shard.
//!
//! Hierarchical: ten levels of 64 slots, the lowest one millisecond wide each (Varghese and Lauck, 1987). Insertion is
//! O(1); finding the next deadline looks at ten bitmaps, whatever the number of timers. There is no cancelling: a group
//! remembers what it is armed for and ignores what fires for nothing. Timers fire late by less than a millisecond,
//! never early, and in an order that depends on nothing but what was inserted when.

#[cfg(test)]
mod tests;

use trimaran_raft::Instant;

/// Bits of a slot's number within its level.
const SLOT_BITS: u32 = 6;
/// Slots in a level: one bit each in a `u64`.
const SLOTS: usize = 1 << SLOT_BITS;
/// Levels: enough for every moment that a clock in microseconds can name, so there is no "beyond the wheel".
const LEVELS: usize = 10;
/// Microseconds in a tick. Elections are ranked in tens of milliseconds, so a finer wheel would buy nothing.
const TICK_MICROS: u64 = 1_000;

/// A timer: its tick, and for whom.
#[derive(Clone, Copy, Debug)]
struct Timer<T> {
    at: u64,
    what: T,
}

/// All slots of one level.
#[derive(Debug)]
struct Level<T> {
    /// Which slots hold anything.
    occupied: u64,
    slots: Vec<Vec<Timer<T>>>,
}

/// The wheel.
#[derive(Debug)]
pub(crate) struct TimerWheel<T> {
    /// The tick that time has reached; nothing before it is left.
    current: u64,
    levels: Vec<Level<T>>,
    /// A slot's timers while they are moved; kept for its capacity.
    moved: Vec<Timer<T>>,
}

impl<T: Copy> TimerWheel<T> {
    pub(crate) fn new(now: Instant) -> TimerWheel<T> {
        let level = || Level {
            occupied: 0,
            slots: (0..SLOTS).map(|_| Vec::new()).collect(),
        };
        TimerWheel {
            current: tick_before(now),
            levels: (0..LEVELS).map(|_| level()).collect(),
            moved: Vec::new(),
        }
    }

    /// Fires for `what` at the first [`TimerWheel::advance`] that is not before `at`.
    pub(crate) fn insert(&mut self, at: Instant, what: T) {
        self.place(Timer {
            at: tick_after(at),
            what,
        });
    }

    /// Moves time to `now` and appends everything that is due to `due`.
    pub(crate) fn advance(&mut self, now: Instant, due: &mut Vec<T>) {
        let now = tick_before(now);
        while let Some((level, slot, at)) = self.next_slot() {
            if at > now {
                break;
            }
            self.current = self.current.max(at);
            self.empty(level, slot, due);
        }
        self.current = self.current.max(now);
    }

    /// When to call [`TimerWheel::advance`] next. May be earlier than the next timer, for its slot to be divided.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let (_, _, at) = self.next_slot()?;
        Some(Instant(at.saturating_mul(TICK_MICROS)))
    }

    /// The level is given by the highest group of bits in which a timer differs from the current tick. So every timer
    /// of a level is due before every timer of a higher one.
    fn place(&mut self, timer: Timer<T>) {
        let at = timer.at.max(self.current);
        let differs = at ^ self.current;
        let level = ((u64::BITS - differs.leading_zeros()).saturating_sub(1) / SLOT_BITS) as usize;
        let slot = slot_of(at, level);
        let level = &mut self.levels[level];
        level.occupied |= 1 << slot;
        level.slots[slot].push(timer);
    }

    /// The first slot that holds anything: its level, its number, the tick at which it begins.
    fn next_slot(&self) -> Option<(usize, usize, u64)> {
        let level = self.levels.iter().position(|level| level.occupied != 0)?;
        let slot = self.levels[level].occupied.trailing_zeros() as usize;
        let shift = SLOT_BITS * level as u32;
        let above = self.current >> (shift + SLOT_BITS) << (shift + SLOT_BITS);
        Some((level, slot, above | (slot as u64) << shift))
    }

    /// Timers of the lowest level are due; those of the others move down, now that time has come closer.
    fn empty(&mut self, level: usize, slot: usize, due: &mut Vec<T>) {
        let from = &mut self.levels[level];
        from.occupied &= !(1 << slot);
        let mut moved = core::mem::take(&mut self.moved);
        // The slot keeps the spare buffer, and the buffer becomes the spare: no allocation in a steady state.
        core::mem::swap(&mut moved, &mut from.slots[slot]);
        for timer in moved.drain(..) {
            if timer.at <= self.current {
                due.push(timer.what);
            } else {
                self.place(timer);
            }
        }
        self.moved = moved;
    }
}

/// For when a group has armed the wheel, the soonest last: a group that is called by then anyway need not be armed
/// again. Since nothing is ever cancelled, a busy group would otherwise leave one timer after the other for its distant
/// deadlines.
#[derive(Debug, Default)]
pub(crate) struct Armed(Vec<Instant>);

impl Armed {
    /// Whether the wheel must be told: it would call too late for `at`. From now on it is taken to have been.
    pub(crate) fn needs(&mut self, at: Instant) -> bool {
        let needs = self.0.last().is_none_or(|&soonest| at < soonest);
        if needs {
            self.0.push(at);
        }
        needs
    }

    /// The wheel calls; false if this is not a call that is waited for.
    pub(crate) fn is_called(&mut self, now: Instant) -> bool {
        let before = self.0.len();
        while self.0.pop_if(|soonest| *soonest <= now).is_some() {}
        self.0.len() < before
    }
}

/// The slot of a tick within a level.
fn slot_of(at: u64, level: usize) -> usize {
    (at >> (SLOT_BITS * level as u32)) as usize & (SLOTS - 1)
}

/// The last tick that is not after a moment.
fn tick_before(at: Instant) -> u64 {
    at.0 / TICK_MICROS
}

/// The first tick that is not before a moment: a timer never fires early.
fn tick_after(at: Instant) -> u64 {
    at.0.div_ceil(TICK_MICROS)
}
