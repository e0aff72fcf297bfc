//! The names of groups: operators know topics and partitions, and the code that logs mostly knows numbers.

use std::fmt::{self, Debug, Write};
use std::sync::{Arc, Mutex, PoisonError};
use tracing::field::Field;
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::{Writer, debug_fn};

/// The partition, or whatever else a group is of, by the group's number; none if it is not known.
type Names = dyn Fn(u64) -> Option<String> + Send + Sync;

/// The latest names; none before [`name_groups`]. Held for no longer than a pointer is copied: a line may be logged anywhere.
static NAMES: Mutex<Option<Arc<Names>>> = Mutex::new(None);

/// From now on, lines with a field `group` have its name behind it.
pub(crate) fn name_groups(names: impl Fn(u64) -> Option<String> + Send + Sync + 'static) {
    let names: Arc<Names> = Arc::new(names);
    let former = NAMES.lock().unwrap_or_else(PoisonError::into_inner).replace(names);
    // Whatever it held is dropped without the lock.
    drop(former);
}

fn name(group: u64) -> Option<String> {
    let names = NAMES.lock().unwrap_or_else(PoisonError::into_inner).clone();
    names.and_then(|names| names(group))
}

/// Formats the fields of a line: `message group=27 (orders-3) error=...`.
pub(super) fn fields() -> impl for<'writer> FormatFields<'writer> + Send + Sync + 'static {
    debug_fn(|writer: &mut Writer<'_>, field: &Field, value: &dyn Debug| put(writer, field.name(), value))
        .delimited(" ")
}

fn put(writer: &mut impl Write, field: &str, value: &dyn Debug) -> fmt::Result {
    match field {
        "message" => write!(writer, "{value:?}"),
        "group" => {
            let group = format!("{value:?}");
            write!(writer, "group={group}")?;
            match group.parse().ok().and_then(name) {
                Some(name) => write!(writer, " ({name})"),
                None => Ok(()),
            }
        }
        _ => write!(writer, "{field}={value:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use tracing_subscriber::fmt::MakeWriter;
    use tracing_subscriber::layer::SubscriberExt;

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("no test panics with it").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl MakeWriter<'_> for Buffer {
        type Writer = Buffer;

        fn make_writer(&self) -> Buffer {
            self.clone()
        }
    }

    #[test]
    fn beside_a_group_stands_its_partition() {
        let buffer = Buffer::default();
        let layer = tracing_subscriber::fmt::layer()
            .with_writer(buffer.clone())
            .with_ansi(false)
            .without_time()
            .with_target(false)
            .fmt_fields(fields());
        let subscriber = tracing_subscriber::registry().with(layer);
        name_groups(|group| (group == 27).then(|| "orders-3".to_owned()));
        tracing::subscriber::with_default(subscriber, || {
            let group = trimaran_raft::GroupId(27);
            tracing::warn!(%group, error = "full", count = 3, "records can't be written");
            tracing::warn!(group = 28, "unknown");
            tracing::warn!("without fields");
        });
        let text = String::from_utf8(buffer.0.lock().expect("no test panics with it").clone()).expect("text");
        assert_eq!(
            text,
            " WARN records can't be written group=27 (orders-3) error=\"full\" count=3\n WARN unknown group=28\n WARN without fields\n"
        );
    }
}
