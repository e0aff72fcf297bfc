//! Who may ask: JSON, addressed to this broker, and not more at a time than the port's places allow.
//!
//! A page in an administrator's browser can send a request here, but not with a content type of its choice unless this
//! side agrees, and not with a name that isn't its own: so both are asked for before anything is done.

use crate::config::Settings;
use axum::http::{HeaderMap, StatusCode, header};
use std::net::IpAddr;

/// Whether a request may be answered.
///
/// # Errors
/// The status, and what to do instead.
pub(super) fn check(headers: &HeaderMap, settings: &Settings) -> Result<(), (StatusCode, String)> {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    if !host.is_some_and(|host| is_own(host, settings)) {
        return Err((
            StatusCode::MISDIRECTED_REQUEST,
            "the request's Host is none of this broker's: send it to an IP address, to localhost, or to a host that \
             `listeners.advertised_host` or `cluster.voters` names"
                .to_owned(),
        ));
    }
    if !headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| is_json(kind.as_bytes()))
    {
        return Err((
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "the request must say `Content-Type: application/json`".to_owned(),
        ));
    }
    Ok(())
}

/// `application/json`, perhaps with parameters.
fn is_json(kind: &[u8]) -> bool {
    let essence = kind.split(|byte| *byte == b';').next().unwrap_or_default();
    essence.trim_ascii().eq_ignore_ascii_case(b"application/json")
}

/// A name that an attacker could make point here is not this broker's. An address can't be made to.
fn is_own(host: &str, settings: &Settings) -> bool {
    let name = without_port(host);
    let voters = settings.cluster.voters.iter();
    let mut known = voters
        .filter(|voter| voter.id == settings.broker.id)
        .map(|voter| without_port(&voter.address))
        .chain(settings.listeners.advertised_host.as_deref());
    name.parse::<IpAddr>().is_ok()
        || name.eq_ignore_ascii_case("localhost")
        || known.any(|own| own.eq_ignore_ascii_case(name))
}

/// The host of `host`, `host:port`, `[::1]` or `[::1]:port`.
fn without_port(host: &str) -> &str {
    match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or(rest, |(address, _)| address),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Voter;

    fn settings() -> Settings {
        let mut settings = Settings::default();
        settings.listeners.advertised_host = Some("kafka.example.org".to_owned());
        settings.cluster.voters = vec![
            Voter {
                id: 1,
                address: "trimaran-0.internal:9192".to_owned(),
            },
            Voter {
                id: 2,
                address: "trimaran-1.internal:9192".to_owned(),
            },
        ];
        settings
    }

    #[track_caller]
    fn status(host: Option<&str>, kind: Option<&str>) -> Option<u16> {
        let mut headers = HeaderMap::new();
        for (name, value) in [(header::HOST, host), (header::CONTENT_TYPE, kind)] {
            if let Some(value) = value {
                headers.insert(name, value.parse().unwrap());
            }
        }
        check(&headers, &settings()).err().map(|(status, _)| status.as_u16())
    }

    #[test]
    fn a_host_is_an_address_or_a_name_of_this_broker() {
        let own = [
            "127.0.0.1:9292",
            "10.0.0.1",
            "[::1]:9292",
            "[fe80::1]",
            "localhost:1",
            "LOCALHOST",
            "kafka.example.org:9292",
            "trimaran-0.internal",
        ];
        for host in own {
            assert_eq!(status(Some(host), Some("application/json")), None, "{host}");
        }
        let others = [
            "",
            "attacker.example",
            "trimaran-1.internal:9292",
            "localhost.attacker.example",
            "127.0.0.1.attacker.example:9292",
            "[attacker.example]",
        ];
        for host in others {
            assert_eq!(status(Some(host), Some("application/json")), Some(421), "{host}");
        }
        assert_eq!(status(None, Some("application/json")), Some(421));
    }

    #[test]
    fn only_json_is_taken() {
        for kind in [
            "application/json",
            "Application/JSON; charset=utf-8",
            " application/json ;x",
        ] {
            assert_eq!(status(Some("localhost"), Some(kind)), None, "{kind}");
        }
        for kind in [
            "text/plain",
            "application/x-www-form-urlencoded",
            "application/jsonp",
            "",
        ] {
            assert_eq!(status(Some("localhost"), Some(kind)), Some(415), "{kind}");
        }
        assert_eq!(status(Some("localhost"), None), Some(415));
    }
}
