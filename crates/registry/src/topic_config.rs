//! What may be configured for a topic: names, defaults and meanings are Kafka 4's, as far as they are implemented.

use crate::CatalogError;
use std::collections::BTreeMap;

/// What a value is, as DescribeConfigs tells it (Kafka's `ConfigDef.Type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `true` or `false`.
    Boolean,
    /// A word or a number with a fraction.
    Text,
    /// 32 bits.
    Int,
    /// 64 bits.
    Long,
    /// A number with a fraction.
    Double,
    /// Words, separated by commas.
    List,
}

/// One known key.
#[derive(Debug)]
pub struct Key {
    /// As Kafka names it.
    pub name: &'static str,
    /// What its values are.
    pub kind: Kind,
    /// As Kafka's default, in text.
    pub default: &'static str,
    /// What it does, for the user.
    pub doc: &'static str,
}

/// Where timestamps come from (`message.timestamp.type`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TimestampType {
    /// The producer sets them.
    #[default]
    CreateTime,
    /// The leader sets them when it appends.
    LogAppendTime,
}

/// A topic's configuration, parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicConfig {
    /// Segments whose newest record is older are deleted, in milliseconds; none keeps them for ever.
    pub retention_ms: Option<u64>,
    /// The oldest segments are deleted while a partition is larger, in bytes; none keeps everything.
    pub retention_bytes: Option<u64>,
    /// A segment's size in bytes before the next one is begun.
    pub segment_bytes: u64,
    /// A segment's age in milliseconds before the next one is begun.
    pub segment_ms: u64,
    /// The largest record batch accepted, in bytes.
    pub max_message_bytes: u32,
    /// acks=all is refused while fewer replicas are in sync, and acknowledged once as many hold the batch.
    pub min_insync_replicas: usize,
    /// Where timestamps come from.
    pub timestamp_type: TimestampType,
    /// How far before the broker's clock a record's timestamp may lie, in milliseconds.
    pub timestamp_before_max_ms: u64,
    /// How far after the broker's clock a record's timestamp may lie, in milliseconds.
    pub timestamp_after_max_ms: u64,
}

/// One line of DescribeConfigs' answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    /// The key's name.
    pub name: &'static str,
    /// The value in force.
    pub value: String,
    /// Whether the topic itself sets it; otherwise it is the default.
    pub overridden: bool,
    /// What values are.
    pub kind: Kind,
    /// What it does.
    pub doc: &'static str,
}

/// All known keys, sorted by name.
pub fn keys() -> &'static [Key] {
    todo!()
}

/// Every known key with the value in force: DescribeConfigs for a topic (finding 12: all of them, not just overrides).
pub fn describe(overrides: &BTreeMap<String, String>) -> Vec<Described> {
    let _ = overrides;
    todo!()
}

impl TopicConfig {
    /// Checks and parses a topic's own settings; everything else has its default.
    pub fn parse(overrides: &BTreeMap<String, String>) -> Result<TopicConfig, CatalogError> {
        let _ = overrides;
        todo!()
    }
}

impl Default for TopicConfig {
    fn default() -> TopicConfig {
        todo!()
    }
}
