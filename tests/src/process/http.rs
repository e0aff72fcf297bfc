//! The administration port.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

/// How long a broker may take: a failover on request gives up before that.
const TIMEOUT: Duration = Duration::from_secs(10);

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// The body.
    pub body: String,
}

/// Asks for a path.
///
/// # Errors
/// Nobody answers, or not in HTTP.
pub fn get(address: SocketAddr, path: &str) -> io::Result<Reply> {
    reply(agent().get(format!("http://{address}{path}")).call())
}

/// Sends a JSON body to a path.
///
/// # Errors
/// Nobody answers, or not in HTTP.
pub fn post(address: SocketAddr, path: &str, body: &str) -> io::Result<Reply> {
    let request = agent().post(format!("http://{address}{path}"));
    reply(request.content_type("application/json").send(body))
}

/// Each request has a connection of its own, which a broker that is stopped or restarted needs.
fn agent() -> ureq::Agent {
    let config = ureq::Agent::config_builder()
        .timeout_global(Some(TIMEOUT))
        .http_status_as_error(false)
        // Brokers are on this machine, whatever the environment says of the way to others.
        .proxy(None)
        .build();
    config.into()
}

fn reply(answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> io::Result<Reply> {
    let mut answer = answer.map_err(ureq::Error::into_io)?;
    let body = answer.body_mut().read_to_string().map_err(ureq::Error::into_io)?;
    Ok(Reply {
        status: answer.status().as_u16(),
        body,
    })
}
