//! Hosts that others are told to connect to.

use std::net::{IpAddr, Ipv6Addr};

/// Longest name that DNS can hold.
const MAX_NAME: usize = 253;

/// Reads a host as clients or brokers will be told it: a DNS name, an IPv4 address, or an IPv6 address with or without
/// brackets (which are not part of it, and are added where a port follows).
///
/// # Errors
/// What would be right, to follow "should be": for a URL, for a host with a port, and for an address that stands for all
/// of a machine's addresses, which nobody can connect to.
pub(super) fn host(text: &str) -> Result<String, String> {
    let wanted = || "a host name or an IP address that clients can connect to, such as kafka-1.example.com".to_owned();
    if let Some((scheme, rest)) = text.split_once("://") {
        let rest = rest.split(['/', ':']).next().unwrap_or_default();
        return Err(format!("a host without `{scheme}://`, such as {}", example(rest)));
    }
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    if let Ok(address) = bare.unwrap_or(text).parse::<IpAddr>() {
        if bare.is_some() && address.is_ipv4() {
            return Err(wanted());
        }
        if address.to_canonical().is_unspecified() {
            return Err(format!("{}; {address} stands for all addresses of a machine", wanted()));
        }
        return Ok(address.to_string());
    }
    if let Some((host, port)) = text.rsplit_once(':')
        && !port.is_empty()
        && port.bytes().all(|byte| byte.is_ascii_digit())
    {
        return Err(format!(
            "a host without a port, such as {}; the port is `listeners.advertised_port`",
            example(host)
        ));
    }
    let is_label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    let name = text.strip_suffix('.').unwrap_or(text);
    // What is made of digits alone is a mistyped IPv4 address, not a name.
    let numeric = name.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if name.len() > MAX_NAME || numeric || !name.split('.').all(is_label) {
        return Err(wanted());
    }
    Ok(text.to_owned())
}

/// The host of a peer as the others are to connect to it, with its port: `host:port` or `[address]:port`.
pub(super) fn host_and_port(text: &str) -> Option<String> {
    let (name, port) = text.rsplit_once(':')?;
    let port: u16 = port.parse().ok()?;
    // Without brackets, nothing tells an IPv6 address from its port.
    let host = if name.contains(':') && !name.starts_with('[') {
        return None;
    } else {
        host(name).ok()?
    };
    Some(match host.parse::<Ipv6Addr>() {
        Ok(_) => format!("[{host}]:{port}"),
        Err(_) => format!("{host}:{port}"),
    })
}

fn example(host: &str) -> &str {
    match self::host(host) {
        Ok(_) => host,
        Err(_) => "kafka-1.example.com",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses_are_hosts() {
        for (text, host_of) in [
            ("localhost", "localhost"),
            ("kafka-1.example.com", "kafka-1.example.com"),
            ("kafka.example.com.", "kafka.example.com."),
            ("my_service", "my_service"),
            ("10.0.0.1", "10.0.0.1"),
            ("::1", "::1"),
            ("[::1]", "::1"),
            ("[2001:DB8::1]", "2001:db8::1"),
        ] {
            assert_eq!(host(text).as_deref(), Ok(host_of), "{text}");
        }
    }

    #[test]
    fn what_breaks_clients_is_refused_and_says_what_to_write() {
        for (text, part) in [
            ("0.0.0.0", "stands for all addresses"),
            ("::", "stands for all addresses"),
            ("[::]", "stands for all addresses"),
            ("::ffff:0.0.0.0", "stands for all addresses"),
            (
                "localhost:21300",
                "such as localhost; the port is `listeners.advertised_port`",
            ),
            ("[::1]:9092", "such as [::1]; the port is `listeners.advertised_port`"),
            ("PLAINTEXT://localhost", "without `PLAINTEXT://`, such as localhost"),
            ("PLAINTEXT://kafka:9092/x", "without `PLAINTEXT://`, such as kafka"),
            ("PLAINTEXT://:9092", "without `PLAINTEXT://`, such as kafka-1"),
            ("a b", "a host name"),
            ("a,b", "a host name"),
            ("", "a host name"),
            ("..", "a host name"),
            ("10.0.0", "a host name"),
            ("10.0.0.256", "a host name"),
            ("[10.0.0.1]", "a host name"),
            ("kafka:", "a host name"),
            ("gr\u{fc}n", "a host name"),
        ] {
            let error = host(text).expect_err(text);
            assert!(error.contains(part), "{text}: {error}");
        }
        assert!(host(&"a.".repeat(200)).is_err());
    }

    #[test]
    fn a_peer_has_a_host_and_a_port() {
        assert_eq!(host_and_port("[::1]:9192").as_deref(), Some("[::1]:9192"));
        assert_eq!(host_and_port("kafka-1:9192").as_deref(), Some("kafka-1:9192"));
        for text in [
            "::1:9192",
            "0.0.0.0:9192",
            "kafka-1",
            "kafka-1:",
            "kafka-1:70000",
            "http://kafka-1:9192",
        ] {
            assert_eq!(host_and_port(text), None, "{text}");
        }
    }
}
