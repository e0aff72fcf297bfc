//! How many bytes a response may hold (KIP-74).
//!
//! Partitions are served in the order of the request. Each gets whole batches up to its own limit and to what is left of
//! the response's. The first that has anything gets at least one batch, however large: otherwise a consumer whose limits
//! are smaller than a batch would never get past it.

use super::{Found, Plan, Wanted, chunk_len};
use crate::engine::Engine;
use trimaran_storage::log::Chunk;

/// The bytes that a response may still have.
pub(super) struct Budget {
    left: usize,
    /// Nothing has been put in yet.
    empty: bool,
}

impl Budget {
    pub(super) fn new(max_bytes: usize) -> Budget {
        Budget {
            left: max_bytes,
            empty: true,
        }
    }

    /// Takes what fits; says whether it did.
    pub(super) fn take(&mut self, bytes: usize, partition_max_bytes: usize) -> bool {
        let fits = self.empty || bytes <= self.left.min(partition_max_bytes);
        if fits && bytes > 0 {
            self.left = self.left.saturating_sub(bytes);
            self.empty = false;
        }
        fits
    }
}

/// Returns the records that were found, or as many as the response has room for.
pub(super) async fn within(engine: &Engine, plan: &Plan, wanted: &Wanted, budget: &mut Budget, found: Found) -> Found {
    let Found::Read(mut result) = found else { return found };
    if budget.take(bytes(&result.chunks), wanted.max_bytes) {
        return Found::Read(result);
    }
    // Batches can't be cut, and where they begin only the log knows: it is asked again for what is left.
    let left = budget.left.min(wanted.max_bytes);
    result.chunks = match &wanted.group {
        Ok(group) if left > 0 => {
            let fewer = engine.read(plan.reader.request(*group, wanted, left, false)).await;
            fewer.map(|fewer| fewer.chunks).unwrap_or_default()
        }
        _ => Vec::new(),
    };
    if !budget.take(bytes(&result.chunks), wanted.max_bytes) {
        result.chunks.clear();
    }
    Found::Read(result)
}

fn bytes(chunks: &[Chunk]) -> usize {
    chunks.iter().map(chunk_len).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_batch_always_fits() {
        let mut budget = Budget::new(0);
        assert!(budget.take(0, 0), "an empty partition takes nothing");
        assert!(budget.take(1_000_000, 10));
        assert!(!budget.take(1, 10));
    }

    #[test]
    fn later_partitions_get_what_is_left() {
        let mut budget = Budget::new(100);
        assert!(budget.take(60, 50), "the first");
        assert!(!budget.take(30, 20), "beyond its own limit");
        assert!(budget.take(20, 20));
        assert!(!budget.take(30, 30), "beyond what is left");
        assert!(budget.take(20, 30));
    }
}
