//! How this broker's replica of the metadata group begins: [`crate::founding`], asked and answered in messages.

use super::{Agent, Effect, Message};
use crate::founding::{Decision, Found};
use crate::{BrokerId, CommandIndex, FolderId, Instant};

impl Agent {
    /// Whose answers are needed before this broker knows whether it founds the metadata group or has lost its replica
    /// of it. Empty once it knows.
    pub fn founding_waits_for(&self) -> Vec<BrokerId> {
        self.founding.silent()
    }

    /// Orders the metadata group to be opened, as soon as it is known how.
    pub(super) fn begin(&mut self, effects: &mut Vec<Effect>) {
        if !self.begun
            && self.other_founders().is_none()
            && let Some(decision) = self.founding.decision()
        {
            self.begun = true;
            effects.push(Effect::OpenMetadata(decision.clone()));
        }
    }

    /// Asks who has not answered yet, when it is time.
    pub(super) fn ask_others(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        if self.begun || self.ask_at > now {
            return;
        }
        self.ask_at = now + self.config.retry_after / 2;
        for other in self.founding.silent() {
            self.ask(other, effects);
        }
    }

    /// Another broker can be reached: if it has not answered, it is asked at once.
    pub(super) fn ask_if_silent(&self, other: BrokerId, effects: &mut Vec<Effect>) {
        if self.founding.silent().contains(&other) {
            self.ask(other, effects);
        }
    }

    fn ask(&self, other: BrokerId, effects: &mut Vec<Effect>) {
        let folder = self.config.folder;
        effects.push(Effect::Send(other, Message::Ask { folder }.encode()));
    }

    /// Another broker's folder holds nothing of the metadata group.
    pub(super) fn asked(&mut self, from: BrokerId, asker: FolderId, effects: &mut Vec<Effect>) {
        let filled = self.catalog.applied() > CommandIndex(0);
        let found = self.founding.asked(from, asker, filled);
        let folder = self.config.folder;
        effects.push(Effect::Send(from, Message::Answer { asker, folder, found }.encode()));
        self.ask_if_silent(from, effects);
    }

    pub(super) fn answered(
        &mut self,
        from: BrokerId,
        asker: FolderId,
        folder: FolderId,
        found: Found,
        effects: &mut Vec<Effect>,
    ) {
        self.founding.answered(from, asker, folder, found);
        if let Some(Decision::Join | Decision::Found(_)) = self.founding.decision() {
            self.begin(effects);
        }
    }
}
