//! The failures of requests and of whole operations.

use std::fmt;
use std::io;
use trimaran_wire::kafka_protocol::ResponseError;

/// The failure of one request to one broker.
#[derive(Debug)]
pub enum RequestError {
    /// There is no connection: nobody listens at the address, or it can't be reached.
    Connect(io::Error),
    /// The connection broke, or the broker closed it.
    Io(io::Error),
    /// No answer in time, although the connection stands: the broker starts, is overloaded, or hangs. The connection is
    /// of no use any more.
    TimedOut,
    /// The answer is not Kafka's protocol.
    Malformed(String),
    /// A Kafka error code.
    Code(i16),
}

impl RequestError {
    /// A failure of an open connection.
    pub(crate) fn from_io(error: io::Error) -> RequestError {
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => RequestError::TimedOut,
            _ => RequestError::Io(error),
        }
    }

    /// The other side has closed the connection.
    pub(crate) fn closed() -> RequestError {
        RequestError::Io(io::ErrorKind::UnexpectedEof.into())
    }
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RequestError::Connect(error) => error.fmt(f),
            RequestError::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                f.write_str("it closed the connection")
            }
            RequestError::Io(error) => error.fmt(f),
            RequestError::TimedOut => f.write_str("it accepts connections and does not answer"),
            RequestError::Malformed(what) => write!(f, "it does not speak Kafka's protocol: {what}"),
            RequestError::Code(code) => match ResponseError::try_from_code(*code) {
                Some(error) => write!(f, "{error:?} ({code})"),
                None => write!(f, "error {code}"),
            },
        }
    }
}

impl std::error::Error for RequestError {}

/// An attempt at one address that got no answer.
#[derive(Debug)]
pub struct Unanswered {
    /// The broker's address.
    pub address: String,
    /// The reason.
    pub error: RequestError,
}

impl fmt::Display for Unanswered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.address, self.error)
    }
}

/// The failure of a whole operation.
#[derive(Debug)]
pub enum ClientError {
    /// No broker answered until the deadline.
    Unreachable {
        /// The last attempt at each address.
        attempts: Vec<Unanswered>,
    },
    /// The cluster answered, but not as asked until the deadline.
    TimedOut {
        /// The operation.
        what: String,
        /// The last answer.
        last: String,
    },
    /// Brokers answer, and none of them is in contact with a majority: what was asked for can't be known.
    NoQuorum {
        /// The subject that can't be known.
        what: String,
        /// The addresses that answered.
        asked: Vec<String>,
    },
    /// The cluster refuses.
    Refused {
        /// The operation.
        what: String,
        /// Kafka's error code.
        code: i16,
        /// The reason in words.
        reason: String,
    },
    /// A broker's answer can't be understood.
    Protocol(String),
}

/// The advice for a cluster in which no broker knows a controller.
pub(crate) const QUORUM_ADVICE: &str = "a majority of the brokers in `cluster.voters` must run, with their data, and \
     reach each other; `trimaran cluster status` shows which answer";

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClientError::Unreachable { attempts } => unreachable(attempts, f),
            ClientError::TimedOut { what, last } => {
                write!(
                    f,
                    "{what} was not possible in time: {last}; try again, or wait longer with --timeout-ms"
                )
            }
            ClientError::NoQuorum { what, asked } => write!(
                f,
                "{what} can't be known: no controller is known at {}; {QUORUM_ADVICE}",
                asked.join(", ")
            ),
            ClientError::Refused { what, reason, .. } => write!(f, "{what} is refused: {reason}"),
            ClientError::Protocol(what) => write!(f, "a broker's answer can't be understood: {what}"),
        }
    }
}

/// An address that nobody listens at is told from one where something accepts connections and stays silent.
fn unreachable(attempts: &[Unanswered], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let addresses: Vec<&str> = attempts.iter().map(|attempt| attempt.address.as_str()).collect();
    write!(f, "can't reach the cluster at {}:", addresses.join(", "))?;
    for (at, attempt) in attempts.iter().enumerate() {
        let separator = if at == 0 { "" } else { ";" };
        if attempts.len() == 1 {
            write!(f, " {}", attempt.error)?;
        } else {
            write!(f, "{separator} {attempt}")?;
        }
    }
    let any = |wanted: fn(&RequestError) -> bool| attempts.iter().any(|attempt| wanted(&attempt.error));
    // The most telling one: where some brokers are silent, it matters little that others don't run.
    f.write_str(if any(|error| matches!(error, RequestError::TimedOut)) {
        ". A broker that accepts connections and does not answer is not ready, or hangs: at its start it asks the others \
         in `cluster.voters` first; its log and GET /health/ready on its administration port say more"
    } else if any(|error| matches!(error, RequestError::Malformed(_) | RequestError::Io(_))) {
        ". Is that the port of `listeners.client`? (Another address: --bootstrap HOST:PORT)"
    } else {
        ". Is a broker running there? (Another address: --bootstrap HOST:PORT)"
    })
}

impl std::error::Error for ClientError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(errors: Vec<RequestError>) -> String {
        let attempt = |(at, error)| Unanswered {
            address: format!("h:{at}"),
            error,
        };
        let attempts = errors.into_iter().enumerate().map(attempt).collect();
        ClientError::Unreachable { attempts }.to_string()
    }

    #[test]
    fn a_silent_broker_is_told_from_one_that_does_not_run() {
        let refused = || RequestError::Connect(io::ErrorKind::ConnectionRefused.into());
        let text = message(vec![refused()]);
        assert!(text.contains("at h:0: connection refused"), "{text}");
        assert!(
            text.contains("Is a broker running there?") && !text.contains("ready"),
            "{text}"
        );
        let text = message(vec![RequestError::TimedOut]);
        assert!(
            text.contains("not ready") && !text.contains("Is a broker running"),
            "{text}"
        );
        let text = message(vec![refused(), RequestError::TimedOut]);
        assert!(text.contains("h:0: connection refused; h:1: it accepts"), "{text}");
        assert!(text.contains("not ready"), "{text}");
        let text = message(vec![RequestError::closed()]);
        assert!(text.contains("`listeners.client`"), "{text}");
    }
}
