//! What may be configured for a topic: names, defaults and meanings are Kafka 4's, as far as they are implemented.
//!
//! Every key that Kafka knows is known here, so that tools find what they look for (finding: Connect and Schema Registry
//! refuse to start where `cleanup.policy` is missing from DescribeConfigs). A value that would change what Kafka
//! promises, and isn't implemented, is an error and never ignored.

mod keys;

use crate::{CatalogError, limits};
use std::collections::BTreeMap;

/// What a value is, as DescribeConfigs tells it (Kafka's `ConfigDef.Type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `true` or `false`.
    Boolean,
    /// A word.
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
    /// Kafka's default, as text.
    pub default: &'static str,
    /// What it does, for the user.
    pub doc: &'static str,
    rule: Rule,
}

/// Which values are accepted.
#[derive(Debug)]
enum Rule {
    /// Whole numbers in this range.
    Range(i64, i64),
    /// Numbers between zero and one.
    Share,
    /// `true` or `false`, without an effect of its own.
    Flag,
    /// One of these.
    OneOf(&'static [&'static str]),
    /// The default only, and why.
    DefaultOnly(&'static str),
    /// The default, and this value, which says what holds anyway; and why no other.
    DefaultOr(&'static str, &'static str),
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

/// How records are stored (`compression.type`), with the level of the compression where it has one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CompressionType {
    /// As the producer compressed them.
    #[default]
    Producer,
    /// Not compressed.
    Uncompressed,
    /// -1 for the default, or 0 to 9.
    Gzip(i32),
    /// Snappy has no levels.
    Snappy,
    /// 1 to 17.
    Lz4(i32),
    /// -131,072 to 22.
    Zstd(i32),
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
    /// How records are stored.
    pub compression: CompressionType,
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
    keys::KEYS
}

/// Every known key with the value in force: DescribeConfigs for a topic tells all of them, not just the topic's own.
pub fn describe(overrides: &BTreeMap<String, String>) -> Vec<Described> {
    keys().iter().map(|key| describe_key(key, overrides)).collect()
}

fn describe_key(key: &Key, overrides: &BTreeMap<String, String>) -> Described {
    let value = value(overrides, key);
    Described {
        name: key.name,
        value: match key.kind {
            Kind::Boolean => value.to_ascii_lowercase(),
            Kind::Text | Kind::Int | Kind::Long | Kind::Double | Kind::List => value.to_owned(),
        },
        overridden: overrides.contains_key(key.name),
        kind: key.kind,
        doc: key.doc,
    }
}

/// Checks a topic's own settings: known keys, accepted values.
///
/// # Errors
/// [`CatalogError::InvalidConfig`] for the first that isn't, with the nearest known key if the key is unknown.
pub fn check(overrides: &BTreeMap<String, String>) -> Result<(), CatalogError> {
    if overrides.len() > limits::CONFIG_ENTRIES {
        let last = overrides.keys().next_back().cloned().unwrap_or_default();
        return Err(invalid(
            &last,
            format!("more than {} settings", limits::CONFIG_ENTRIES),
            None,
        ));
    }
    overrides.iter().try_for_each(|(name, value)| check_one(name, value))
}

fn check_one(name: &str, value: &str) -> Result<(), CatalogError> {
    let Some(key) = find(name) else {
        return Err(invalid(name, "it is not known".to_owned(), nearest(name)));
    };
    if value.len() > limits::CONFIG_VALUE_BYTES {
        let reason = format!("the value is longer than {} bytes", limits::CONFIG_VALUE_BYTES);
        return Err(invalid(name, reason, None));
    }
    key.rule
        .check(key.default, value)
        .map_err(|reason| invalid(name, reason, None))
}

impl Rule {
    /// Blanks around a value don't count, nor do capitals in `true` and `false` (Kafka's `ConfigDef.parseType`).
    fn check(&self, default: &str, value: &str) -> Result<(), String> {
        let value = value.trim();
        let is_default = || match default {
            "true" | "false" => value.eq_ignore_ascii_case(default),
            _ => value == default,
        };
        match *self {
            Rule::Range(min, max) => match value.parse::<i64>() {
                Ok(number) if (min..=max).contains(&number) => Ok(()),
                _ => Err(format!("'{value}' is not a whole number between {min} and {max}")),
            },
            Rule::Share => match value.parse::<f64>() {
                Ok(number) if (0.0..=1.0).contains(&number) => Ok(()),
                _ => Err(format!("'{value}' is not a number between 0 and 1")),
            },
            Rule::Flag => Rule::OneOf(&["true", "false"]).check(default, &value.to_ascii_lowercase()),
            Rule::OneOf(words) if words.contains(&value) => Ok(()),
            Rule::OneOf(words) => Err(format!("'{value}' is none of: {}", words.join(", "))),
            Rule::DefaultOnly(_) if is_default() => Ok(()),
            Rule::DefaultOnly(reason) => Err(format!("only the default '{default}' is accepted: {reason}")),
            Rule::DefaultOr(other, _) if is_default() || value == other => Ok(()),
            Rule::DefaultOr(other, reason) => Err(format!(
                "only '{other}' and the default '{default}' are accepted: {reason}"
            )),
        }
    }
}

/// Echoes a key that someone else chose, but not at any length.
fn invalid(key: &str, reason: String, nearest: Option<String>) -> CatalogError {
    CatalogError::InvalidConfig {
        key: key.chars().take(limits::CONFIG_VALUE_BYTES).collect(),
        reason,
        nearest,
    }
}

fn find(name: &str) -> Option<&'static Key> {
    let position = keys().binary_search_by_key(&name, |key| key.name).ok()?;
    keys().get(position)
}

fn value<'a>(overrides: &'a BTreeMap<String, String>, key: &Key) -> &'a str {
    overrides.get(key.name).map_or(key.default, |value| value.trim())
}

/// The known key that differs least, if it differs in no more than a third of its letters.
fn nearest(name: &str) -> Option<String> {
    if name.len() > 2 * limits::CONFIG_VALUE_BYTES {
        return None; // the comparison takes time in proportion to its length, and the asker chose the length
    }
    let (distance, key) = keys().iter().map(|key| (distance(name, key.name), key.name)).min()?;
    (distance <= key.len() / 3).then(|| key.to_owned())
}

/// Levenshtein's: insertions, deletions and replacements that make one of the other.
fn distance(left: &str, right: &str) -> usize {
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in right.bytes().enumerate() {
            let replaced = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[right.len()]
}

impl TopicConfig {
    /// Checks and parses a topic's own settings; everything else has its default.
    ///
    /// # Errors
    /// As [`check`].
    pub fn parse(overrides: &BTreeMap<String, String>) -> Result<TopicConfig, CatalogError> {
        check(overrides)?;
        Ok(TopicConfig::lenient(overrides))
    }

    /// Parses what stands in the catalog already, which this build may not accept any more (or not yet): what it
    /// can't use has its default.
    pub(crate) fn lenient(overrides: &BTreeMap<String, String>) -> TopicConfig {
        let number = |name: &str| accepted(overrides, name).parse::<i64>().ok();
        let positive = |name: &str| number(name).and_then(|n| u64::try_from(n).ok());
        let or_max = |name: &str| positive(name).unwrap_or(u64::MAX);
        TopicConfig {
            retention_ms: positive("retention.ms"),
            retention_bytes: positive("retention.bytes"),
            segment_bytes: or_max("segment.bytes"),
            segment_ms: or_max("segment.ms"),
            max_message_bytes: u32::try_from(or_max("max.message.bytes")).unwrap_or(u32::MAX),
            min_insync_replicas: usize::try_from(or_max("min.insync.replicas")).unwrap_or(1),
            compression: compression(accepted(overrides, "compression.type"), |level| {
                number(level).and_then(|n| i32::try_from(n).ok()).unwrap_or(-1)
            }),
            timestamp_type: timestamp_type(accepted(overrides, "message.timestamp.type")),
            timestamp_before_max_ms: or_max("message.timestamp.before.max.ms"),
            timestamp_after_max_ms: or_max("message.timestamp.after.max.ms"),
        }
    }
}

/// The topic's own value if it is acceptable, the default otherwise.
fn accepted<'a>(overrides: &'a BTreeMap<String, String>, name: &str) -> &'a str {
    let Some(key) = find(name) else { return "" };
    let value = value(overrides, key);
    match key.rule.check(key.default, value) {
        Ok(()) => value,
        Err(_) => key.default,
    }
}

fn compression(word: &str, level: impl Fn(&str) -> i32) -> CompressionType {
    match word {
        "uncompressed" => CompressionType::Uncompressed,
        "gzip" => CompressionType::Gzip(level("compression.gzip.level")),
        "snappy" => CompressionType::Snappy,
        "lz4" => CompressionType::Lz4(level("compression.lz4.level")),
        "zstd" => CompressionType::Zstd(level("compression.zstd.level")),
        _ => CompressionType::Producer,
    }
}

fn timestamp_type(word: &str) -> TimestampType {
    match word {
        "LogAppendTime" => TimestampType::LogAppendTime,
        _ => TimestampType::CreateTime,
    }
}

impl Default for TopicConfig {
    fn default() -> TopicConfig {
        TopicConfig::lenient(&BTreeMap::new())
    }
}

#[cfg(test)]
mod tests;
