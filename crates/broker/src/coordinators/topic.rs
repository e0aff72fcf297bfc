//! `__consumer_offsets`: the topic that holds the state of all consumer groups.

use crate::config::Settings;
use crate::engine::ClusterView;
use crate::ids;
use std::collections::BTreeMap;
use trimaran_coordinator::limits::WRITE_BYTES;
use trimaran_coordinator::partition_for;
use trimaran_raft::GroupId;
use trimaran_registry::Catalog;
use trimaran_registry::agent::AdminRequest;
use trimaran_registry::catalog::{Layout, NewTopic};

/// Its name, as in Kafka.
pub(crate) const NAME: &str = "__consumer_offsets";

/// Replicas, unless the configuration says otherwise: as of any topic.
const MOST_REPLICAS: usize = 3;

/// Whole segments are deleted once the state is written again: with Kafka's 100 MiB, that would be late.
const SEGMENT_BYTES: u32 = 4 << 20;

/// Whether only brokers write to the topic of this name.
pub(crate) fn is_internal(name: &str) -> bool {
    name == NAME
}

/// The partition that keeps a consumer group, and that partition's consensus group; none while there is no such topic.
pub(crate) fn partition_of(view: &ClusterView, consumer_group: &str) -> Option<GroupId> {
    let topic = view.catalog.topic(NAME)?;
    let count = u32::try_from(topic.partitions.len()).ok()?;
    let partition = topic.partitions.get(partition_for(consumer_group, count) as usize)?;
    Some(ids::group(partition.group))
}

/// The request that creates it. Nothing in it expires by age or size: what it holds is the state, until the leader has
/// written that again.
pub(crate) fn creation(settings: &Settings, catalog: &Catalog) -> AdminRequest {
    let replicas = settings.groups.offsets_replication.map_or_else(
        // While a cluster starts, some of its founders may not be registered yet. The topic waits for them.
        || {
            catalog
                .brokers()
                .count()
                .max(settings.cluster.voters.len())
                .min(MOST_REPLICAS)
        },
        usize::from,
    );
    let config = [
        ("retention.ms", "-1".to_owned()),
        ("retention.bytes", "-1".to_owned()),
        ("segment.bytes", SEGMENT_BYTES.to_string()),
        ("max.message.bytes", (2 * WRITE_BYTES).to_string()),
        ("message.timestamp.type", "CreateTime".to_owned()),
    ];
    let config = config.into_iter().map(|(key, value)| (key.to_owned(), value));
    let topic = NewTopic {
        name: NAME.to_owned(),
        layout: Layout::Spread {
            partitions: i32::try_from(settings.groups.offsets_partitions).unwrap_or(i32::MAX),
            replication_factor: i32::try_from(replicas).unwrap_or(i32::MAX),
        },
        config: config.collect::<BTreeMap<_, _>>(),
    };
    AdminRequest::CreateTopic {
        topic,
        validate_only: false,
    }
}
