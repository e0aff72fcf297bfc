//! The session of a client's connection: what the broker knows of the client for as long as it is connected.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use trimaran_transport::{Connection, ConnectionId};

/// Bytes of each thing that a client says of itself that are kept: more than any library sends, and little beside what a
/// connection takes anyway. On the wire a client id may have 32 KiB, and there may be thousands of connections.
const MAX_KEPT_BYTES: usize = 256;

/// The session of one connection. Everything about it that can change may be read and set from any request of the
/// connection.
#[derive(Debug)]
pub struct Session {
    connection: Connection,
    authentication: Authentication,
    principal: Principal,
    client: Mutex<Client>,
}

/// The state of a client's authentication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Authentication {
    /// The listener asks for no proof: the client is [`Principal::anonymous`].
    NotRequired,
}

/// The identity that permissions are given to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Principal {
    /// The kind of identity: `User` for all that Kafka itself knows.
    pub kind: Arc<str>,
    /// The name among those of its kind.
    pub name: Arc<str>,
}

impl Principal {
    /// A client that did not have to say who it is, as Kafka calls it.
    pub fn anonymous() -> Principal {
        Principal {
            kind: "User".into(),
            name: "ANONYMOUS".into(),
        }
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind, self.name)
    }
}

/// A client's own description. It is for logs and the like: nothing may depend on it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Client {
    /// The client id of the last request that had another one than the request before it.
    pub id: Option<Arc<str>>,
    /// The client library and its version, if ApiVersions has named them (KIP-511).
    pub software: Option<Software>,
}

/// A client library.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Software {
    /// Its name: letters, digits, dots and hyphens.
    pub name: Arc<str>,
    /// Its version, of the same characters.
    pub version: Arc<str>,
}

impl Session {
    /// The session of a connection on which nothing has been asked yet.
    pub fn new(connection: Connection) -> Session {
        Session {
            connection,
            authentication: Authentication::NotRequired,
            principal: Principal::anonymous(),
            client: Mutex::default(),
        }
    }

    /// The connection's id within this process.
    pub fn id(&self) -> ConnectionId {
        self.connection.id
    }

    /// The connection: the listener's name, and the addresses of both ends.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// The state of the client's authentication.
    pub fn authentication(&self) -> &Authentication {
        &self.authentication
    }

    /// The identity that permissions are asked for.
    pub fn principal(&self) -> &Principal {
        &self.principal
    }

    /// The client's description of itself, so far.
    pub fn client(&self) -> Client {
        self.lock().clone()
    }

    /// Notes a request's client id. Almost always it is the one that is known, and then nothing is allocated.
    pub(super) fn note_client_id(&self, id: Option<&str>) {
        let id = id.map(shortened);
        let mut client = self.lock();
        if client.id.as_deref() != id {
            client.id = id.map(Arc::from);
        }
    }

    /// Notes the client library.
    pub(super) fn note_software(&self, name: &str, version: &str) {
        let software = Software {
            name: shortened(name).into(),
            version: shortened(version).into(),
        };
        self.lock().software = Some(software);
    }

    fn lock(&self) -> MutexGuard<'_, Client> {
        self.client.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// As much of a text as is kept.
fn shortened(text: &str) -> &str {
    let mut end = text.len().min(MAX_KEPT_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// For log lines: address, principal, and what the client says of itself. What a client says is escaped.
impl fmt::Display for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.connection.remote, self.principal)?;
        let client = self.lock();
        if let Some(id) = &client.id {
            write!(f, " {id:?}")?;
        }
        if let Some(Software { name, version }) = &client.software {
            write!(f, " ({name} {version})")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_says_who_is_connected() {
        let session = Session::new(Connection {
            id: ConnectionId(7),
            listener: "client".into(),
            remote: ([10, 0, 0, 1], 5000).into(),
            local: ([10, 0, 0, 2], 9092).into(),
        });
        assert_eq!(session.to_string(), "10.0.0.1:5000 User:ANONYMOUS");
        assert_eq!(session.client(), Client::default());
        session.note_client_id(Some("a\nb"));
        session.note_software("librdkafka", "2.3.0");
        assert_eq!(
            session.to_string(),
            "10.0.0.1:5000 User:ANONYMOUS \"a\\nb\" (librdkafka 2.3.0)"
        );
        let first = session.client().id.unwrap();
        session.note_client_id(Some("a\nb"));
        assert!(
            Arc::ptr_eq(&first, &session.client().id.unwrap()),
            "nothing new is kept"
        );
        session.note_client_id(None);
        assert_eq!(session.client().id, None);
        session.note_client_id(Some(&"é".repeat(10_000)[..]));
        assert_eq!(session.client().id.unwrap().len(), MAX_KEPT_BYTES);
        session.note_client_id(Some(&format!("x{}", "é".repeat(10_000))));
        assert_eq!(
            session.client().id.unwrap().len(),
            MAX_KEPT_BYTES - 1,
            "characters stay whole"
        );
    }
}
