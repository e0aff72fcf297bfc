//! Variables that Kubernetes adds to every container for the services of its namespace.
//!
//! A service named `trimaran` yields `TRIMARAN_SERVICE_HOST`, `TRIMARAN_SERVICE_PORT`, `TRIMARAN_SERVICE_PORT_KAFKA`,
//! `TRIMARAN_PORT`, `TRIMARAN_PORT_9092_TCP`, and `…_TCP_PROTO`, `…_TCP_PORT`, `…_TCP_ADDR`; one named `trimaran-admin`
//! the same behind `TRIMARAN_ADMIN`. (Kubernetes documentation, "Service: environment variables".)

/// Whether a variable is such a link to a service, and none of our configuration.
pub(super) fn is_service_link(name: &str, value: &str) -> bool {
    const PROTOCOLS: [&str; 3] = ["TCP", "UDP", "SCTP"];
    let is_url = PROTOCOLS
        .iter()
        .any(|protocol| value.trim().starts_with(&format!("{}://", protocol.to_lowercase())));
    let words: Vec<&str> = name.split('_').collect();
    // The name of the service's port may follow.
    let is_service = |pair: &[&str]| pair == ["SERVICE", "HOST"] || pair == ["SERVICE", "PORT"];
    if words.windows(2).skip(1).any(is_service) {
        return true;
    }
    match words.as_slice() {
        [_, .., "PORT", port, protocol] | [_, .., "PORT", port, protocol, "PROTO" | "PORT" | "ADDR"] => {
            port.parse::<u16>().is_ok() && PROTOCOLS.contains(protocol)
        }
        [.., "PORT"] => is_url,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::keys;

    #[test]
    fn the_variables_of_a_service_are_known() {
        for (name, value) in [
            ("TRIMARAN_SERVICE_HOST", "10.96.0.7"),
            ("TRIMARAN_SERVICE_PORT", "9092"),
            ("TRIMARAN_SERVICE_PORT_KAFKA", "9092"),
            ("TRIMARAN_SERVICE_PORT_KAFKA_EXTERNAL", "9094"),
            ("TRIMARAN_PORT", "tcp://10.96.0.7:9092"),
            ("TRIMARAN_PORT_9092_TCP", "tcp://10.96.0.7:9092"),
            ("TRIMARAN_PORT_9092_TCP_PROTO", "tcp"),
            ("TRIMARAN_PORT_9092_TCP_PORT", "9092"),
            ("TRIMARAN_PORT_9092_TCP_ADDR", "10.96.0.7"),
            ("TRIMARAN_ADMIN_PORT", "tcp://10.96.0.8:9292"),
            ("TRIMARAN_ADMIN_PORT_53_UDP_ADDR", "10.96.0.8"),
            ("TRIMARAN_LISTENERS_ADVERTISED_PORT", "tcp://10.96.0.8:9292"),
        ] {
            assert!(is_service_link(name, value), "{name}");
        }
    }

    #[test]
    fn configuration_and_typing_errors_are_no_links() {
        for name in keys::all_names().map(|name| keys::variable(&name)) {
            assert!(!is_service_link(&name, "9092"), "{name}");
        }
        for name in [
            "TRIMARAN_PORT",
            "TRIMARAN_BROKER_IDD",
            "TRIMARAN_PORT_X_TCP",
            "TRIMARAN_CLIENT_PORT",
        ] {
            assert!(!is_service_link(name, "9092"), "{name}");
        }
    }
}
