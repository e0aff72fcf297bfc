//! How many connections there are, all together and from each address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Counts connections against their limits.
pub(crate) struct Slots {
    max: usize,
    max_per_ip: usize,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    total: usize,
    by_ip: HashMap<IpAddr, usize>,
}

/// Which limit was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    Total,
    PerIp,
}

/// One connection's place; given back when dropped.
pub(crate) struct Slot {
    slots: Arc<Slots>,
    ip: IpAddr,
}

impl Slots {
    pub(crate) fn new(max: usize, max_per_ip: usize) -> Arc<Slots> {
        Arc::new(Slots {
            max,
            max_per_ip,
            taken: Mutex::default(),
        })
    }

    /// Takes a place for a connection from `ip`; an IPv4 address in IPv6 clothes counts as what it is.
    pub(crate) fn take(self: &Arc<Slots>, ip: IpAddr) -> Result<Slot, Full> {
        let ip = ip.to_canonical();
        let mut taken = self.lock();
        if taken.total >= self.max {
            return Err(Full::Total);
        }
        let from_ip = taken.by_ip.get(&ip).copied().unwrap_or(0);
        if from_ip >= self.max_per_ip {
            return Err(Full::PerIp);
        }
        taken.total += 1;
        taken.by_ip.insert(ip, from_ip + 1);
        Ok(Slot {
            slots: self.clone(),
            ip,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut taken = self.slots.lock();
        taken.total -= 1;
        if let Some(count) = taken.by_ip.get_mut(&self.ip) {
            *count -= 1;
            if *count == 0 {
                taken.by_ip.remove(&self.ip);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_and_given_back() {
        let slots = Slots::new(3, 2);
        let (a, b): (IpAddr, IpAddr) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
        let first = slots.take(a).ok().unwrap();
        let mapped = "::ffff:10.0.0.1".parse().unwrap();
        let _second = slots.take(mapped).ok().unwrap();
        assert_eq!(slots.take(a).err(), Some(Full::PerIp));
        let _third = slots.take(b).ok().unwrap();
        assert_eq!(slots.take(b).err(), Some(Full::Total));
        drop(first);
        assert!(slots.take(a).is_ok());
        assert_eq!(slots.lock().total, 2);
    }

    #[test]
    fn an_address_without_connections_leaves_nothing_behind() {
        let slots = Slots::new(3, 2);
        drop(slots.take([10, 0, 0, 1].into()));
        assert!(slots.lock().by_ip.is_empty());
    }
}
