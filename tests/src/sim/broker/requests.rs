//! Clients' requests, and their answers.

use super::event::{Effect, Event};
use super::{Running, Waiter};
use crate::sim::clients::{Answer, Fetched, PartitionName, PartitionNews, Request};
use crate::sim::queue::Micros;
use bytes::BytesMut;
use trimaran_multiraft::{Acks, AppendError, Completion, Input, ReadError, ReadRequest, ReadResult, Ticket};
use trimaran_node as node;
use trimaran_raft::GroupId;
use trimaran_registry::PartitionIndex;
use trimaran_storage::log::Chunk;
use trimaran_wire::batch;

impl Running {
    pub(super) fn request(
        &mut self,
        now: Micros,
        client: u32,
        number: u64,
        request: Request,
        effects: &mut Vec<Effect>,
    ) -> Result<(), String> {
        match request {
            Request::Metadata(partition) => {
                effects.push(Effect::Answer(client, number, Answer::Metadata(self.news(&partition))));
            }
            Request::Produce { partition, batch, acks } => {
                self.produce(now, (client, number), &partition, batch, acks, effects);
            }
            Request::Fetch {
                partition,
                from,
                epoch,
                wait,
            } => self.fetch(now, (client, number), &partition, (from, epoch, wait), effects),
            Request::Admin(request) => self.request_of_admin(now, (client, number), request, effects)?,
        }
        Ok(())
    }

    /// The group of a partition. Whether it has a replica here, its shard knows.
    fn group_of(&self, partition: &PartitionName) -> Option<GroupId> {
        let index = PartitionIndex(partition.index);
        Some(GroupId(self.view.catalog.partition(&partition.topic, index)?.group.0))
    }

    fn news(&self, partition: &PartitionName) -> Option<PartitionNews> {
        let index = PartitionIndex(partition.index);
        let placed = self.view.catalog.partition(&partition.topic, index)?;
        let leadership = self.view.leaders.leadership(placed.group);
        Some(PartitionNews {
            leader: leadership
                .and_then(|known| known.leader)
                .and_then(|leader| u32::try_from(leader.0).ok()),
            epoch: leadership.map_or(-1, |known| i32::try_from(known.term.0).unwrap_or(i32::MAX)),
            replicas: placed
                .replicas
                .iter()
                .filter_map(|id| u32::try_from(id.0).ok())
                .collect(),
        })
    }

    fn produce(
        &mut self,
        now: Micros,
        (client, number): (u32, u64),
        partition: &PartitionName,
        batch: BytesMut,
        acks: Acks,
        effects: &mut Vec<Effect>,
    ) {
        let Some(group) = self.group_of(partition) else {
            let answer = Answer::Produced(Err(AppendError::UnknownGroup));
            effects.push(Effect::Answer(client, number, answer));
            return;
        };
        let ticket = self.ticket(Waiter::Produce { client, number });
        let input = Input::Append {
            group,
            batch,
            acks,
            ticket,
        };
        self.tell(now, group, input, effects);
    }

    fn fetch(
        &mut self,
        now: Micros,
        (client, number): (u32, u64),
        partition: &PartitionName,
        (from, epoch, wait): (i64, Option<i32>, Option<Micros>),
        effects: &mut Vec<Effect>,
    ) {
        let Some(group) = self.group_of(partition) else {
            let answer = Answer::Fetched(Err(ReadError::UnknownGroup));
            effects.push(Effect::Answer(client, number, answer));
            return;
        };
        let ticket = self.ticket(Waiter::Fetch { client, number, group });
        let read = ReadRequest {
            group,
            from: batch::Offset(from),
            max_bytes: 4 << 10,
            current_epoch: epoch.map(batch::LeaderEpoch),
            follower_ok: true,
            wait: wait.is_some(),
        };
        self.tell(now, group, Input::Read(ticket, read), effects);
        if let Some(wait) = wait {
            effects.push(Effect::At(now + wait, Event::Cancel(ticket.0)));
        }
    }

    pub(super) fn cancel(&mut self, now: Micros, ticket: u64, effects: &mut Vec<Effect>) {
        if let Some(Waiter::Fetch { group, .. }) = self.tickets.get(&ticket) {
            let group = *group;
            self.tell(now, group, Input::CancelRead(Ticket(ticket)), effects);
        }
    }

    pub(super) fn leave(&mut self, now: Micros, effects: &mut Vec<Effect>) -> Result<(), String> {
        self.tell_node(now, node::Input::Leaving, effects)?;
        for shard in 0..self.seats.len() {
            let Ticket(ticket) = self.ticket(Waiter::Leave);
            self.leaving.insert(ticket);
            self.tell_shard(now, shard, Input::TransferAll(Ticket(ticket)), effects);
        }
        Ok(())
    }

    pub(super) fn complete(
        &mut self,
        now: Micros,
        ticket: Ticket,
        completion: Completion,
        effects: &mut Vec<Effect>,
    ) -> Result<(), String> {
        let Some(waiter) = self.tickets.remove(&ticket.0) else {
            return Err(format!("ticket {} was completed twice, or never given", ticket.0));
        };
        match (waiter, completion) {
            (Waiter::Produce { client, number }, Completion::Appended(result)) => {
                let result = result.map(|appended| appended.base_offset.0);
                effects.push(Effect::Answer(client, number, Answer::Produced(result)));
            }
            (Waiter::Fetch { client, number, group }, Completion::Read(result)) => {
                let answer = result.and_then(|read| self.fetched(now, group, &read, effects));
                effects.push(Effect::Answer(client, number, Answer::Fetched(answer)));
            }
            (Waiter::Proposal, Completion::Appended(_)) => {}
            (Waiter::Status(group), Completion::Status(status)) => {
                self.tell_node(now, node::Input::Status(group, status), effects)?;
            }
            (Waiter::Transfer, Completion::Transferred(outcome)) => {
                effects.push(self.note(format!("transferred: {outcome:?}")));
            }
            (Waiter::Leave, Completion::Transferred(outcome)) => {
                effects.push(self.note(format!("leaves, and handed over: {outcome:?}")));
                self.leaving.remove(&ticket.0);
                if self.leaving.is_empty() {
                    if let Err(error) = self.journal.note_progress() {
                        return Err(format!("the end of a start can't be noted: {error:?}"));
                    }
                    effects.push(Effect::Left);
                }
            }
            _ => return Err(format!("ticket {} was completed as something else", ticket.0)),
        }
        Ok(())
    }

    fn fetched(
        &mut self,
        now: Micros,
        group: GroupId,
        read: &ReadResult,
        effects: &mut Vec<Effect>,
    ) -> Result<Fetched, ReadError> {
        let mut records = BytesMut::new();
        for chunk in &read.chunks {
            match chunk {
                Chunk::Memory(bytes) => records.extend_from_slice(bytes),
                Chunk::File(slice) => match slice.read() {
                    Ok(bytes) => records.extend_from_slice(&bytes),
                    Err(error) => {
                        effects.push(self.note(format!("can't read a chunk of group {group}: {error:?}")));
                        self.tell(now, group, Input::Unreadable(group, error), effects);
                        return Err(ReadError::Storage);
                    }
                },
            }
        }
        Ok(Fetched {
            epoch: read.epoch.0,
            high_watermark: read.high_watermark.0.0,
            records: records.freeze(),
        })
    }
}
