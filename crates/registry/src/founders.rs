//! The founders of a cluster: the brokers that its first start named, which vote in the metadata group.
//!
//! The voters of a group's first configuration are not in its log, so every replica must be opened with the same ones.
//! Two brokers that were told different founders have different majorities, which need not meet. So each notes the
//! founders durably before it opens the metadata group for the first time, and later starts are compared with the note,
//! and peers with each other.

use crate::BrokerId;
use std::fmt;

/// Brokers by their ids, in no particular order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Founders(Vec<BrokerId>);

impl Founders {
    /// These brokers, each once.
    pub fn new(brokers: impl IntoIterator<Item = BrokerId>) -> Founders {
        let mut brokers: Vec<BrokerId> = brokers.into_iter().collect();
        brokers.sort_unstable();
        brokers.dedup();
        Founders(brokers)
    }

    /// Whether that broker is one of them.
    pub fn contains(&self, broker: BrokerId) -> bool {
        self.0.binary_search(&broker).is_ok()
    }

    /// Their ids, in ascending order.
    pub fn ids(&self) -> &[BrokerId] {
        &self.0
    }
}

impl fmt::Display for Founders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, broker) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}{broker}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_order_nor_repetition_makes_other_founders() {
        let founders = Founders::new([3, 1, 2, 1].map(BrokerId));
        assert_eq!(founders, Founders::new([1, 2, 3].map(BrokerId)));
        assert_ne!(founders, Founders::new([1, 2].map(BrokerId)));
        assert!(founders.contains(BrokerId(3)) && !founders.contains(BrokerId(4)));
        assert_eq!(founders.to_string(), "1, 2, 3");
    }
}
