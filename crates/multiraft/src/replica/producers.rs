//! The size of a replica's producer table.

use super::Replica;
use crate::mailbox::Outbox;
use crate::step_context::StepContext;
use trimaran_storage::producers::MAX_PRODUCERS;

/// Producers that each group may remember although its shard remembers more than it should in all: some 2 MB.
const LEAST_PRODUCERS: usize = 4_096;

impl Replica {
    /// Forgets producers that have been silent for long, or are too many.
    pub(crate) fn trim_producers(&mut self, context: &mut StepContext, out: &mut Outbox) {
        let most = match context.producers > context.config.max_producers {
            true => LEAST_PRODUCERS,
            false => MAX_PRODUCERS,
        };
        let forgotten = self.producers.trim(self.group.commit(), most, context.now);
        if forgotten > 0 {
            out.forgotten.push((self.id, forgotten as u64));
        }
        self.count_producers(self.producers.len(), context);
    }

    /// So many are in its table now, as the shard counts.
    pub(crate) fn count_producers(&mut self, now: usize, context: &mut StepContext) {
        let before = core::mem::replace(&mut self.counted_producers, now);
        context.producers = (context.producers + now).saturating_sub(before);
    }
}
