//! A broker's administration port.

use anyhow::{Context, Result};
use std::net::SocketAddr;
use std::time::Duration;

/// Asks for a page; returns the status.
pub(crate) fn status(address: SocketAddr, path: &str, timeout: Duration) -> Result<u16> {
    let answer = agent(timeout).get(format!("http://{address}{path}")).call()?;
    Ok(answer.status().as_u16())
}

/// Sends JSON, and takes JSON.
pub(crate) fn post_json(
    address: SocketAddr,
    path: &str,
    body: &serde_json::Value,
    timeout: Duration,
) -> Result<serde_json::Value> {
    let url = format!("http://{address}{path}");
    let request = agent(timeout).post(&url).content_type("application/json");
    let mut answer = request
        .send(body.to_string())
        .with_context(|| format!("{address} gave no answer"))?;
    let text = answer.body_mut().read_to_string()?;
    serde_json::from_str(&text).with_context(|| format!("{url} answered {} with {text:?}", answer.status()))
}

fn agent(timeout: Duration) -> ureq::Agent {
    let config = ureq::Agent::config_builder()
        .timeout_global(Some(timeout))
        .http_status_as_error(false)
        // Brokers are on this machine, whatever the environment says of the way to others.
        .proxy(None)
        .build();
    config.into()
}
