//! Permission: every handler asks [`Access::authorize`] before it does or shows anything.

use super::errors::Failure;
use super::session::Session;
use kafka_protocol::ResponseError;
use std::fmt;

/// An operation on a resource, with Kafka's number of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names are Kafka's, and so are their meanings")]
pub enum Operation {
    Read = 3,
    Write = 4,
    Create = 5,
    Delete = 6,
    Alter = 7,
    Describe = 8,
    ClusterAction = 9,
    DescribeConfigs = 10,
    AlterConfigs = 11,
    IdempotentWrite = 12,
}

/// A resource that permissions are given for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Resource<'a> {
    /// The cluster.
    Cluster,
    /// The topic of this name, whether there is one or not.
    Topic(&'a str),
    /// Some topic: it is enough to have the permission for any name at all.
    AnyTopic,
    /// The consumer group of this id.
    Group(&'a str),
    /// The transactions of this id.
    TransactionalId(&'a str),
}

impl Resource<'_> {
    /// Kafka's error for a client that lacks permission.
    fn refusal(self) -> ResponseError {
        match self {
            Resource::Cluster => ResponseError::ClusterAuthorizationFailed,
            Resource::Topic(_) | Resource::AnyTopic => ResponseError::TopicAuthorizationFailed,
            Resource::Group(_) => ResponseError::GroupAuthorizationFailed,
            Resource::TransactionalId(_) => ResponseError::TransactionalIdAuthorizationFailed,
        }
    }

    /// The operations that there are on such a resource, as Kafka has them.
    fn operations(self) -> &'static [Operation] {
        use Operation::{
            Alter, AlterConfigs, ClusterAction, Create, Delete, Describe, DescribeConfigs, IdempotentWrite, Read, Write,
        };
        match self {
            Resource::Cluster => &[
                Create,
                Alter,
                Describe,
                ClusterAction,
                DescribeConfigs,
                AlterConfigs,
                IdempotentWrite,
            ],
            Resource::Topic(_) | Resource::AnyTopic => &[
                Read,
                Write,
                Create,
                Delete,
                Alter,
                Describe,
                DescribeConfigs,
                AlterConfigs,
            ],
            Resource::Group(_) => &[Read, Delete, Describe],
            Resource::TransactionalId(_) => &[Write, Describe],
        }
    }
}

/// The kind of resource. Not its name: a client that asked by id may not be allowed to know it.
impl fmt::Display for Resource<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Resource::Cluster => "the cluster",
            Resource::Topic(_) => "the topic",
            Resource::AnyTopic => "some topic",
            Resource::Group(_) => "the group",
            Resource::TransactionalId(_) => "the transactional id",
        })
    }
}

/// A source of permissions.
pub trait Authorizer: Send + Sync + 'static {
    /// Whether a client may do this. Called several times a request: it must not block.
    fn allows(&self, session: &Session, operation: Operation, resource: Resource<'_>) -> bool;
}

/// Allows everything to everybody.
#[derive(Clone, Copy, Debug, Default)]
pub struct AllowAll;

impl Authorizer for AllowAll {
    fn allows(&self, _: &Session, _: Operation, _: Resource<'_>) -> bool {
        true
    }
}

/// A client's permissions.
#[derive(Clone, Copy)]
pub(super) struct Access<'a> {
    pub(super) session: &'a Session,
    pub(super) authorizer: &'a dyn Authorizer,
}

impl Access<'_> {
    /// Whether the client may do this.
    pub(super) fn allows(self, operation: Operation, resource: Resource<'_>) -> bool {
        self.authorizer.allows(self.session, operation, resource)
    }

    /// Nothing, if the client may do this.
    ///
    /// # Errors
    /// Kafka's error for the kind of resource. It says nothing about whether there is such a resource.
    pub(super) fn authorize(self, operation: Operation, resource: Resource<'_>) -> Result<(), Failure> {
        if self.allows(operation, resource) {
            return Ok(());
        }
        let principal = self.session.principal();
        let message = format!("not authorized: {principal} needs the permission {operation:?} for {resource}");
        Err(Failure::new(resource.refusal(), message))
    }

    /// The operations that the client may do, as the bit field in which responses tell them.
    pub(super) fn operations(self, resource: Resource<'_>) -> i32 {
        let allowed = resource.operations().iter();
        allowed
            .filter(|operation| self.allows(**operation, resource))
            .fold(0, |bits, operation| bits | 1 << *operation as i32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::tests::full_access;

    /// Kafka's bit fields of a cluster without an authorizer.
    #[test]
    fn everything_is_allowed_in_kafkas_bits() {
        assert_eq!(full_access().operations(Resource::Topic("t")), 0b1101_1111_1000);
        assert_eq!(full_access().operations(Resource::Cluster), 0b1_1111_1010_0000);
        assert_eq!(full_access().operations(Resource::Group("g")), 0b1_0100_1000);
        assert_eq!(full_access().operations(Resource::TransactionalId("t")), 0b1_0001_0000);
    }
}
