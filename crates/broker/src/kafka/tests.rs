//! What the tests of several handlers share: a view of a cluster that nobody runs, and a broker that runs.

mod administering;
mod connection;
mod connections;
mod consumer_groups;
mod consuming;
mod permissions;
mod producing;
mod recompression;
mod records;
mod replicas;
pub(super) mod words;

use super::authorization::{Access, AllowAll};
use super::session::Session;
use crate::engine::ClusterView;
use kafka_protocol::protocol::StrBytes;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::LazyLock;
use trimaran_registry::catalog::{Broker, Catalog, Command, Endpoint, Layout, NewTopic, RequestId, Wish};
use trimaran_registry::{BrokerId, CommandIndex, FolderId, Incarnation, TopicId};
use trimaran_transport::{Connection, ConnectionId};

use connection::Client;
pub(in crate::kafka) use connection::TestBroker;

pub(super) fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

/// The access of a client that may do everything.
pub(super) fn full_access() -> Access<'static> {
    static SESSION: LazyLock<Session> = LazyLock::new(|| {
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        Session::new(Connection {
            id: ConnectionId(0),
            listener: "test".into(),
            remote: nowhere,
            local: nowhere,
        })
    });
    Access {
        session: &SESSION,
        authorizer: &AllowAll,
    }
}

/// The id of the `orders` topic in [`view`].
pub(super) const ORDERS: TopicId = TopicId([7; 16]);

/// Three brokers in racks a, b and c; the topic `orders` with two partitions, three replicas and one setting of its
/// own.
pub(super) fn view() -> ClusterView {
    let mut catalog = Catalog::default();
    let mut apply = |wish: Wish| {
        let index = CommandIndex(catalog.applied().0 + 1);
        let change = catalog.plan(&wish, &BTreeSet::new()).unwrap();
        let request = RequestId {
            broker: BrokerId(1),
            incarnation: Incarnation(1),
            sequence: index.0,
        };
        let command = Command {
            request,
            settled: 0,
            change,
        };
        catalog.apply(index, &command);
    };
    apply(Wish::FoundCluster("founded".into()));
    for (id, rack) in [(1, "a"), (2, "b"), (3, "c")] {
        let broker = Broker {
            id: BrokerId(id),
            incarnation: Incarnation(1),
            rack: Some(rack.into()),
            client: Endpoint {
                host: format!("host-{id}"),
                port: 9092,
            },
            ..Broker::default()
        };
        let folder = FolderId::default();
        apply(Wish::RegisterBroker { broker, folder });
    }
    let orders = NewTopic {
        name: "orders".into(),
        layout: Layout::Spread {
            partitions: 2,
            replication_factor: 3,
        },
        config: BTreeMap::from([("retention.ms".to_string(), "1000".to_string())]),
    };
    apply(Wish::CreateTopic(ORDERS, orders));
    ClusterView {
        catalog,
        controller: Some(BrokerId(2)),
        ..ClusterView::default()
    }
}
