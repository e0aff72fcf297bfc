//! Requests to the controller, which any broker forwards: topics, their configuration and their places.

use crate::client::{Attempt, attempt, check, incomplete, refused};
use crate::cluster::reassignments;
use crate::requests::{self, topic_name};
use crate::{Client, ClientError, ReassignmentInfo};
use trimaran_wire::kafka_protocol::ResponseError;
use trimaran_wire::kafka_protocol::messages::alter_partition_reassignments_request::{
    ReassignablePartition, ReassignableTopic,
};
use trimaran_wire::kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use trimaran_wire::kafka_protocol::messages::{
    AlterPartitionReassignmentsRequest, BrokerId, DescribeConfigsRequest, ListPartitionReassignmentsRequest,
};
use trimaran_wire::kafka_protocol::protocol::StrBytes;

impl Client {
    /// Creates a topic; -1 for the cluster's defaults.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with the cluster's reason; [`ClientError::NoQuorum`] if there is no controller to ask.
    pub async fn create_topic(
        &mut self,
        name: &str,
        partitions: i32,
        replication: i16,
        config: &[(String, String)],
    ) -> Result<(), ClientError> {
        let config = config.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        let request = requests::create_topic(name, partitions, replication, config, self.timeout_ms());
        let what = format!("creating topic `{name}`");
        let created = self
            .ask_any(&what, 5, &request, |response| match response.topics.first() {
                Some(result) => check(&what, result.error_code, result.error_message.as_ref()),
                None => Err(incomplete()),
            })
            .await;
        self.outcome(&what, created).await
    }

    /// Deletes a topic.
    ///
    /// # Errors
    /// As [`Client::create_topic`].
    pub async fn delete_topic(&mut self, name: &str) -> Result<(), ClientError> {
        let request = requests::delete_topic(name, self.timeout_ms());
        let what = format!("deleting topic `{name}`");
        let deleted = self
            .ask_any(&what, 4, &request, |response| match response.responses.first() {
                // To a deletion, "unknown" is final, not a reason to try again.
                Some(result) if result.error_code == ResponseError::UnknownTopicOrPartition.code() => {
                    Err(Attempt::Never(refused(&what, result.error_code, None)))
                }
                Some(result) => check(&what, result.error_code, result.error_message.as_ref()),
                None => Err(incomplete()),
            })
            .await;
        self.outcome(&what, deleted).await
    }

    /// Keeps partitions of a topic on these brokers from now on, the preferred leader first; none: where they were
    /// before the reassignment that is under way. Done when the cluster has taken it up; see [`Client::reassignments`].
    ///
    /// # Errors
    /// As [`Client::create_topic`]; the reason is that for the first partition that the cluster refuses.
    pub async fn reassign(&mut self, topic: &str, wanted: &[(i32, Option<Vec<i32>>)]) -> Result<(), ClientError> {
        let partitions = wanted.iter().map(|(partition, replicas)| {
            let replicas = replicas.as_ref();
            ReassignablePartition::default()
                .with_partition_index(*partition)
                .with_replicas(replicas.map(|ids| ids.iter().map(|id| BrokerId(*id)).collect()))
        });
        let of_topic = ReassignableTopic::default()
            .with_name(topic_name(topic))
            .with_partitions(partitions.collect());
        let request = AlterPartitionReassignmentsRequest::default()
            .with_timeout_ms(self.timeout_ms())
            .with_topics(vec![of_topic]);
        let what = format!("reassigning topic `{topic}`");
        let taken_up = self
            .ask_any(&what, 0, &request, |response| {
                check(&what, response.error_code, response.error_message.as_ref())?;
                let results = response.responses.iter().flat_map(|topic| &topic.partitions);
                for result in results {
                    let of_partition = format!("reassigning {topic}/{}", result.partition_index);
                    match check(&of_partition, result.error_code, result.error_message.as_ref()) {
                        // No other broker knows better.
                        Err(_) if result.error_code == ResponseError::UnknownTopicOrPartition.code() => {
                            return Err(Attempt::Never(refused(&of_partition, result.error_code, None)));
                        }
                        outcome => outcome?,
                    }
                }
                Ok(())
            })
            .await;
        self.outcome(&what, taken_up).await
    }

    /// The partitions that are on their way to other brokers.
    ///
    /// # Errors
    /// [`ClientError`], when no broker answers in time.
    pub async fn reassignments(&mut self) -> Result<Vec<ReassignmentInfo>, ClientError> {
        let request = ListPartitionReassignmentsRequest::default()
            .with_timeout_ms(self.timeout_ms())
            .with_topics(None);
        let what = "listing reassignments";
        self.ask_any(what, 0, &request, |response| {
            check(what, response.error_code, response.error_message.as_ref())?;
            Ok(response.topics.iter().flat_map(reassignments).collect())
        })
        .await
    }

    /// A topic's configuration: name, value, and whether the topic itself sets it.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with the cluster's reason.
    pub async fn topic_config(&mut self, name: &str) -> Result<Vec<(String, String, bool)>, ClientError> {
        /// Kafka's ConfigResource.Type.TOPIC.
        const TOPIC: i8 = 2;
        /// Kafka's ConfigSource.DYNAMIC_TOPIC_CONFIG.
        const FROM_TOPIC: i8 = 1;
        let resource = DescribeConfigsResource::default()
            .with_resource_type(TOPIC)
            .with_resource_name(StrBytes::from_string(name.to_owned()))
            .with_configuration_keys(None);
        let request = DescribeConfigsRequest::default().with_resources(vec![resource]);
        let what = format!("describing topic `{name}`");
        self.ask_any(&what, 2, &request, |mut response| {
            let result = response.results.pop().ok_or_else(incomplete)?;
            check(&what, result.error_code, result.error_message.as_ref())?;
            let configs = result.configs.into_iter().map(|config| {
                let value = config.value.map_or_else(String::new, |value| value.to_string());
                (config.name.to_string(), value, config.config_source == FROM_TOPIC)
            });
            Ok(configs.collect())
        })
        .await
    }

    /// The time that a broker may take over a request to the controller: less than an attempt, so that its answer is
    /// heard.
    fn timeout_ms(&self) -> i32 {
        let wait = attempt(self.deadline()) * 4 / 5;
        i32::try_from(wait.as_millis()).unwrap_or(i32::MAX)
    }

    /// Replaces a timeout of a request to the controller by [`ClientError::NoQuorum`] if there is no controller.
    async fn outcome<T>(&mut self, what: &str, result: Result<T, ClientError>) -> Result<T, ClientError> {
        if let Err(ClientError::TimedOut { .. } | ClientError::Unreachable { .. }) = &result
            && self
                .metadata(Some(&[]), false)
                .await
                .is_ok_and(|cluster| cluster.controller.is_none())
        {
            return Err(self.no_quorum(format!("the outcome of {what}")));
        }
        result
    }
}
