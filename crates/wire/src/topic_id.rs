//! The ids of topics.

/// A topic's id; all zeros for none. Never used again: a topic that is deleted and created again has another id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicId(pub [u8; 16]);

impl TopicId {
    /// Stands for "no id".
    pub const NONE: TopicId = TopicId([0; 16]);
}

impl From<uuid::Uuid> for TopicId {
    fn from(id: uuid::Uuid) -> TopicId {
        TopicId(id.into_bytes())
    }
}

impl From<TopicId> for uuid::Uuid {
    fn from(id: TopicId) -> uuid::Uuid {
        uuid::Uuid::from_bytes(id.0)
    }
}
