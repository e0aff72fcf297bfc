//! The Trimaran broker: a replicated log that Apache Kafka clients use unmodified
