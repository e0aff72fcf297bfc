//! Brokers' addresses as they are typed.

use std::net::Ipv6Addr;

/// Reads `HOST:PORT` or `[IPV6]:PORT`.
///
/// # Errors
/// The text says what to write instead.
pub(super) fn parse(text: &str) -> Result<String, String> {
    let text = text.trim();
    if let Some((scheme, rest)) = text.split_once("://") {
        return Err(format!("leave `{scheme}://` out: `{rest}`"));
    }
    if text.parse::<Ipv6Addr>().is_ok() {
        return Err(format!(
            "an IPv6 address is written in brackets, before its port: `[{text}]:9092`"
        ));
    }
    let missing = || format!("a broker's address is HOST:PORT: `{text}:9092`");
    let (host, port) = match text.rsplit_once(':') {
        // The colons of an address in brackets are not the one before a port.
        Some((_, port)) if port.ends_with(']') => return Err(missing()),
        Some(parts) => parts,
        None if text.is_empty() => return Err("a broker's address is HOST:PORT: `localhost:9092`".to_owned()),
        None => return Err(missing()),
    };
    if port.parse::<u16>().ok().is_none_or(|port| port == 0) {
        return Err(format!("`{port}` is no port: a number from 1 to 65535 is"));
    }
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_host = match bracketed {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => !host.is_empty() && !host.contains(|c: char| c.is_whitespace() || matches!(c, ':' | '[' | ']' | '/')),
    };
    match is_host {
        true => Ok(text.to_owned()),
        false => Err(format!(
            "`{host}` is no host: a name, an IPv4 address or an IPv6 address in brackets is"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_host_and_port() {
        for text in [
            "localhost:9092",
            "10.0.0.1:9092",
            "[::1]:9092",
            "[2001:db8::1]:1",
            "kafka_1.example.com:65535",
        ] {
            assert_eq!(parse(text).as_deref(), Ok(text));
        }
        assert_eq!(parse(" localhost:9092 ").as_deref(), Ok("localhost:9092"));
    }

    #[test]
    fn other_addresses_are_refused_with_what_to_write() {
        for (text, part) in [
            ("", "`localhost:9092`"),
            ("localhost", "`localhost:9092`"),
            ("[::1]", "`[::1]:9092`"),
            ("::1", "`[::1]:9092`"),
            ("PLAINTEXT://kafka:9092", "`kafka:9092`"),
            ("localhost:", "is no port"),
            ("localhost:0", "is no port"),
            ("localhost:70000", "is no port"),
            ("fe80::1%eth0:9092", "is no host"),
            ("[localhost]:9092", "is no host"),
            (":9092", "is no host"),
            ("a b:9092", "is no host"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
