//! Refusals: the reply to a request of which nothing is done.

use crate::request::*;
use crate::{Error, Reply, Request};

impl Request {
    /// The reply that refuses the whole request.
    pub fn refuse(self, error: Error) -> Reply {
        match self {
            Request::JoinGroup(join) => Reply::JoinGroup(Err(JoinRefused {
                error,
                member_id: join.member_id,
            })),
            Request::SyncGroup(_) => Reply::SyncGroup(Err(error)),
            Request::Heartbeat(_) => Reply::Heartbeat(Err(error)),
            Request::LeaveGroup(_) => Reply::LeaveGroup(Err(error)),
            Request::OffsetCommit(commit) => {
                let topics = commit.topics.into_iter();
                Reply::OffsetCommit(topics.map(|topic| refuse_topic(topic, error)).collect())
            }
            Request::OffsetFetch(fetch) => {
                let groups = fetch.groups.into_iter().map(|fetch| GroupOffsets {
                    group: fetch.group,
                    topics: Err(error),
                });
                Reply::OffsetFetch(groups.collect())
            }
            Request::DescribeGroups(describe) => {
                let groups = describe.groups.into_iter().map(|group| GroupDescription {
                    group,
                    description: Err(error),
                });
                Reply::DescribeGroups(groups.collect())
            }
            Request::ListGroups(_) => Reply::ListGroups(Err(error)),
            Request::DeleteGroups(delete) => {
                let groups = delete.groups.into_iter();
                Reply::DeleteGroups(groups.map(|group| (group, Err(error))).collect())
            }
            Request::OffsetDelete(_) => Reply::OffsetDelete(Err(error)),
            Request::DeleteTopic(_) => Reply::DeleteTopic(Err(error)),
        }
    }
}

impl Reply {
    /// The refusal of the request that this reply would have answered.
    pub(crate) fn refused(self, error: Error) -> Reply {
        match self {
            Reply::JoinGroup(result) => Reply::JoinGroup(Err(JoinRefused {
                error,
                member_id: result.map_or_else(|refused| refused.member_id, |joined| joined.member_id),
            })),
            Reply::SyncGroup(_) => Reply::SyncGroup(Err(error)),
            Reply::Heartbeat(_) => Reply::Heartbeat(Err(error)),
            Reply::LeaveGroup(_) => Reply::LeaveGroup(Err(error)),
            Reply::OffsetCommit(mut topics) => {
                for (_, result) in topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
                    *result = Err(error);
                }
                Reply::OffsetCommit(topics)
            }
            Reply::OffsetFetch(mut groups) => {
                groups.iter_mut().for_each(|group| group.topics = Err(error));
                Reply::OffsetFetch(groups)
            }
            Reply::DescribeGroups(mut groups) => {
                groups.iter_mut().for_each(|group| group.description = Err(error));
                Reply::DescribeGroups(groups)
            }
            Reply::ListGroups(_) => Reply::ListGroups(Err(error)),
            Reply::DeleteGroups(mut groups) => {
                groups.iter_mut().for_each(|(_, result)| *result = Err(error));
                Reply::DeleteGroups(groups)
            }
            Reply::OffsetDelete(_) => Reply::OffsetDelete(Err(error)),
            Reply::DeleteTopic(_) => Reply::DeleteTopic(Err(error)),
        }
    }
}

fn refuse_topic(topic: TopicCommit, error: Error) -> TopicOutcome {
    let partitions = topic.partitions.into_iter();
    TopicOutcome {
        topic: topic.topic,
        topic_id: topic.topic_id,
        partitions: partitions.map(|commit| (commit.partition, Err(error))).collect(),
    }
}
